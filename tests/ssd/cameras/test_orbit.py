"""Orbits: where the cameras stand, which way is up, and what they see."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from threestudio_ssd.cameras import fit_orbit, look_at, orbit_cameras, parse_axis
from threestudio_ssd.cameras.orbit import up_of_cameras
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.gaussians import load_gaussians

DATA = Path(__file__).parents[3] / "data"
AXES = ["+x", "-x", "+y", "-y", "+z", "-z"]


def project(cameras, point):
    """Pixel of a world point in every view, and its depth."""
    local = cameras.viewmats[:, :3, :3] @ torch.as_tensor(point, dtype=torch.float32) + cameras.viewmats[:, :3, 3]
    pixels = (cameras.Ks @ local[..., None])[..., 0]
    return pixels[:, :2] / pixels[:, 2:], local[:, 2]


@pytest.mark.parametrize("up", AXES)
def test_orbit_cameras_stand_where_they_should(up):
    center, axis = torch.tensor([1.0, 2.0, 3.0]), parse_axis(up).float()
    azimuths = torch.arange(0, 360, 30)
    cameras = orbit_cameras(center, 2.5, 20.0, azimuths, 40.0, 64, 48, up)
    outward = cameras.centers - center
    assert torch.allclose(outward.norm(dim=1), torch.tensor(2.5), atol=1e-5)
    assert torch.allclose(outward @ axis, torch.tensor(2.5 * 0.3420201), atol=1e-5)
    assert torch.allclose(torch.linalg.det(cameras.viewmats[:, :3, :3]), torch.tensor(1.0), atol=1e-5)
    pixels, depths = project(cameras, center)
    assert torch.allclose(pixels, torch.tensor([32.0, 24.0]), atol=1e-3)
    assert torch.allclose(depths, torch.tensor(2.5), atol=1e-5)
    above, _ = project(cameras, center + 0.1 * axis)
    assert (above[:, 1] < 24).all()
    assert torch.allclose(above[:, 0], torch.tensor(32.0), atol=1e-3)
    turn = torch.linalg.cross(outward[:-1], outward[1:]) @ axis
    assert (turn > 0).all()  # counter-clockwise seen from above


def test_azimuth_zero_looks_north():
    colmap = orbit_cameras([0, 0, 0], 1, 0, [0, 90], 40, 8, 8, "-y")
    assert torch.allclose(colmap.forwards, torch.tensor([[0.0, 0, 1], [-1, 0, 0]]), atol=1e-6)
    blender = orbit_cameras([0, 0, 0], 1, 0, [0, 90], 40, 8, 8, "+z")
    assert torch.allclose(blender.forwards, torch.tensor([[0.0, 1, 0], [-1, 0, 0]]), atol=1e-6)


def test_straight_above_and_below_is_defined():
    cameras = orbit_cameras([0, 0, 0], 1, [90, -90], 0, 40, 8, 8, "+z")
    assert torch.allclose(cameras.forwards, torch.tensor([[0.0, 0, -1], [0, 0, 1]]), atol=1e-6)
    assert torch.allclose(cameras.ups, torch.tensor([[0.0, 1, 0], [0, -1, 0]]), atol=1e-6)


def test_fov_and_size():
    cameras = orbit_cameras([0, 0, 0], 1, [0, 10], 0, 90, 200, 100)
    assert cameras.Ks[0].tolist() == [[50, 0, 100], [0, 50, 50], [0, 0, 1]]
    assert cameras.widths.tolist() == [200, 200]
    assert cameras.names == ["orbit_000", "orbit_001"]


def test_look_at_along_up_takes_another_axis():
    viewmat = look_at(torch.tensor([0.0, 0, 5]), torch.zeros(3), torch.tensor([0.0, 0, 1]))
    assert torch.isfinite(viewmat).all()
    assert torch.allclose(torch.linalg.det(viewmat[:3, :3]), torch.tensor(1.0, dtype=torch.float64))


@pytest.mark.parametrize("name", ["plant/plant.ply", "playbot/playbot_31k.ply"])
def test_captures_get_a_sane_orbit(name):
    gaussians = load_gaussians(DATA / name)
    orbit = fit_orbit(gaussians.means, gaussians.opacities)
    assert orbit.up.tolist() == [0, -1, 0]
    low, high = gaussians.means.min(0).values, gaussians.means.max(0).values
    assert ((orbit.center - (low + high) / 2).abs() < 0.1 * (high - low)).all()
    cameras = orbit_cameras(orbit.center, orbit.radius, 15, torch.arange(0, 360, 45), 40, 100, 100, orbit.up)
    local = gaussians.means @ cameras.viewmats[:, :3, :3].mT + cameras.viewmats[:, None, :3, 3]
    assert (local[..., 2] > 0).all()
    pixels = local[..., :2] / local[..., 2:] * cameras.Ks[0, 0, 0] + 50
    weights = gaussians.opacities.expand(len(cameras), -1)
    is_seen = ((pixels > 0) & (pixels < 100)).all(-1)
    assert (weights * is_seen).sum() / weights.sum() > 0.97
    spread = (pixels.amax((0, 1)) - pixels.amin((0, 1))).max()
    assert spread > 50  # and it fills the picture


@pytest.mark.parametrize("up", AXES)
def test_a_ground_tells_up(up):
    generator = torch.Generator().manual_seed(0)
    ground = torch.rand(3000, 3, generator=generator) * torch.tensor([4.0, 4.0, 0.02])
    thing = torch.rand(1500, 3, generator=generator) + torch.tensor([1.5, 1.5, 0.0])
    axis = parse_axis(up)
    east = torch.eye(3, dtype=torch.float64)[(axis.abs().argmax() + 1) % 3]
    turn = torch.stack([east, torch.linalg.cross(axis, east), axis], dim=1).float()
    means = torch.cat([ground, thing]) @ turn.T
    orbit = fit_orbit(means, torch.ones(4500))
    assert orbit.up.tolist() == axis.tolist()


def test_overrides_and_cameras_tell_up():
    generator = torch.Generator().manual_seed(0)
    means, opacities = torch.randn(500, 3, generator=generator), torch.ones(500)
    assert fit_orbit(means, opacities).up.tolist() == [0, -1, 0]
    assert fit_orbit(means, opacities, up="+z").up.tolist() == [0, 0, 1]
    assert torch.allclose(fit_orbit(means, opacities, up=[0, 3, 4]).up, torch.tensor([0, 0.6, 0.8]))
    capture = orbit_cameras([0, 0, 0], 3, [10, 20, 30], [0, 120, 240], 40, 8, 8, "+x")
    assert torch.allclose(fit_orbit(means, opacities, cameras=capture).up, torch.tensor([1.0, 0, 0]), atol=0.1)
    fixed = fit_orbit(means, opacities, center=[1, 2, 3], radius=7)
    assert fixed.center.tolist() == [1, 2, 3]
    assert fixed.radius == 7


def test_floaters_and_invisible_gaussians_do_not_count():
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(2000, 3, generator=generator).clamp(-1, 1)
    floaters = torch.tensor([[1e4, 0.0, 0.0]]).expand(20, 3)
    unseen = torch.full((2000, 3), 50.0)
    everything = torch.cat([means, floaters, unseen, torch.full((1, 3), float("nan"))])
    opacities = torch.cat([torch.ones(2020), torch.full((2000,), 1e-6), torch.ones(1)])
    orbit = fit_orbit(everything, opacities)
    assert orbit.center.abs().max() < 0.1
    assert orbit.radius < 6


def test_messages():
    means, opacities = torch.zeros(3, 3), torch.ones(3)
    with pytest.raises(ConfigError) as error:
        fit_orbit(means, opacities, up="up")
    assert str(error.value) == (
        "up is 'up'; expected one of +x -x +y -y +z -z, or three numbers that are not all zero; "
        "set up=-y, which is right for most splats"
    )
    with pytest.raises(ConfigError) as error:
        fit_orbit(means, torch.zeros(3))
    assert str(error.value) == (
        "no Gaussian of 3 is visible (opacity above 1/255); expected a scene with something in it; "
        "check the splat file, or give cameras"
    )
    with pytest.raises(ConfigError) as error:
        fit_orbit(means, opacities, radius=-1)
    assert str(error.value) == "radius is -1; expected a number above 0; leave radius out to fit it"
    with pytest.raises(ConfigError) as error:
        fit_orbit(means, opacities, center=[1, 2])
    assert str(error.value) == "center is [1, 2]; expected three numbers; set center=[0,0,0]"


def test_level_cameras_tell_up_exactly_wherever_most_of_them_are():
    up = torch.nn.functional.normalize(torch.tensor([0.2, -0.9, 0.4]), dim=0)
    azimuths = torch.cat([torch.linspace(0, 60, 20), torch.tensor([150.0, 250.0])])
    level = orbit_cameras((0, 0, 0), 4.0, torch.linspace(5, 60, 22), azimuths, 40.0, 64, 64, up=up)
    mean = torch.nn.functional.normalize(level.ups.mean(0), dim=0)
    assert mean @ up < 0.98
    assert up_of_cameras(level).float() @ up > 1 - 1e-6


def test_cameras_that_look_one_way_or_are_held_every_way_tell_less():
    one_way = orbit_cameras((0, 0, 0), 4.0, 20.0, torch.linspace(-1, 1, 8), 40.0, 64, 64, up="+z")
    rolled = replace(one_way, viewmats=rolled_by(one_way.viewmats, torch.linspace(-30, 30, 8)))
    mean = torch.nn.functional.normalize(rolled.ups.double().mean(0), dim=0)
    torch.testing.assert_close(up_of_cameras(rolled), mean, atol=1e-5, rtol=0)
    every_way = replace(one_way, viewmats=rolled_by(one_way.viewmats, torch.arange(8) * 45.0))
    assert up_of_cameras(every_way) is None


def rolled_by(viewmats, angles_deg):
    """World-to-camera matrices of cameras that are turned about where they look."""
    turns = torch.eye(4).repeat(len(viewmats), 1, 1)
    cosines, sines = angles_deg.deg2rad().cos(), angles_deg.deg2rad().sin()
    turns[:, 0, 0], turns[:, 0, 1], turns[:, 1, 0], turns[:, 1, 1] = cosines, -sines, sines, cosines
    return turns @ viewmats
