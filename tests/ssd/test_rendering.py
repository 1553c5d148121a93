"""The one call of the rasteriser: several cameras at once are the single renders, in values and gradients."""

import pytest
import torch

from tests.edit_world import toy_cameras, toy_parts
from threestudio_ssd.fields import rays_of
from threestudio_ssd.gaussians import Gaussians
from threestudio_ssd.rendering import coverage, inverse_depth_planes, render, render_depths, render_each
from threestudio_ssd.toyworld.splat import to_cameras
from threestudio_ssd.toyworld.world import orbit_camera

BACKGROUND = torch.tensor([0.2, 0.4, 0.6])


@pytest.fixture(scope="module")
def scene():
    return toy_parts(keep_every=8)[0]


def with_directions(gaussians: Gaussians, sh_degree: int) -> Gaussians:
    """The same with colours that change with the direction they are seen from."""
    wide = gaussians.with_sh_degree(sh_degree)
    noise = torch.randn(wide.shN.shape, generator=torch.Generator().manual_seed(0))
    return wide.replace(shN=0.3 * noise)


@pytest.mark.parametrize("sh_degree", [0, 1, 3])
def test_three_cameras_are_three_single_renders(scene, sh_degree):
    gaussians, cameras = with_directions(scene, sh_degree), toy_cameras(3, 24)
    images, alphas = render(gaussians, cameras, BACKGROUND)
    assert images.shape == (3, 24, 24, 3)
    assert alphas.shape == (3, 24, 24, 1)
    for index in range(3):
        image, alpha = render(gaussians, cameras[index], BACKGROUND)
        torch.testing.assert_close(images[index], image[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(alphas[index], alpha[0], rtol=1e-5, atol=1e-6)
    assert (images[0] - images[1]).abs().mean() > 1e-3


def test_three_cameras_with_given_colours(scene):
    cameras = toy_cameras(3, 24)
    colors = torch.rand(len(scene), 2, generator=torch.Generator().manual_seed(0))
    images, _ = render(scene, cameras, torch.zeros(2), colors)
    for index in range(3):
        image, _ = render(scene, cameras[index], torch.zeros(2), colors)
        torch.testing.assert_close(images[index], image[0], rtol=1e-5, atol=1e-6)


def test_gradients_of_three_cameras_are_the_sum_of_the_single_ones(scene):
    cameras = toy_cameras(3, 24)
    weights = torch.randn(3, 24, 24, 3, generator=torch.Generator().manual_seed(1))

    def gradients(rows):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in scene.parameters().items()}
        images, _ = render(Gaussians(**leaves), cameras[rows], BACKGROUND)
        (images * weights[rows]).sum().backward()
        return {name: leaf.grad for name, leaf in leaves.items() if leaf.numel()}

    whole, single = gradients([0, 1, 2]), [gradients([row]) for row in range(3)]
    for name, gradient in whole.items():
        torch.testing.assert_close(gradient, sum(part[name] for part in single), rtol=1e-3, atol=1e-3)
        assert gradient.abs().max() > 0


def test_the_background_shows_where_nothing_is(scene):
    nothing = scene.replace(logit_opacities=torch.full((len(scene),), -30.0))
    images, alphas = render(nothing, toy_cameras(2, 16), BACKGROUND)
    torch.testing.assert_close(images, BACKGROUND.expand_as(images))
    assert alphas.abs().max() == 0


def test_render_each_takes_cameras_of_several_sizes_and_clamps(scene):
    from threestudio_ssd.cameras.cameras import concatenate

    cameras = concatenate([toy_cameras(1, 16), toy_cameras(1, 24).resized(32, 24)])
    bright = scene.replace(sh0=scene.sh0 + 20)
    images = list(render_each(bright, cameras, BACKGROUND))
    assert [tuple(image.shape) for image in images] == [(16, 16, 3), (24, 32, 3)]
    assert max(float(image.max()) for image in images) == 1.0


def test_coverage_of_all_is_alpha_and_of_parts_adds_up():
    gaussians, is_object = toy_parts(keep_every=8)
    cameras = toy_cameras(2, 24)
    _, alphas = render(gaussians, cameras, BACKGROUND)
    everything = coverage(gaussians, torch.ones_like(is_object), cameras)
    torch.testing.assert_close(everything, alphas[..., 0], rtol=1e-4, atol=1e-5)
    parts = coverage(gaussians, is_object, cameras) + coverage(gaussians, ~is_object, cameras)
    torch.testing.assert_close(parts, everything, rtol=1e-4, atol=1e-5)


def ground(sigma: float, flatness: float) -> Gaussians:
    """A plane z = 0 of discs that overlap, about the origin."""
    steps = torch.arange(-3, 3, 0.1)
    x, y = (each.flatten() for each in torch.meshgrid(steps, steps, indexing="ij"))
    count = len(x)
    return Gaussians(
        means=torch.stack([x, y, torch.zeros(count)], dim=1),
        log_scales=torch.tensor([sigma, sigma, sigma * flatness]).log().repeat(count, 1),
        raw_quats=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        logit_opacities=torch.full((count,), 3.0),
        sh0=torch.zeros(count, 1, 3),
        shN=torch.zeros(count, 0, 3),
    )


@pytest.mark.parametrize(("elevation_deg", "limit"), [(10, 0.1), (25, 0.02), (60, 0.01)])
def test_the_depth_of_a_ground_seen_at_a_slant_is_where_rays_meet_it(elevation_deg, limit):
    """The middles of the discs are nearer than that, as those in front are blended first: by .27 at 25 degrees."""
    cameras = to_cameras([orbit_camera(30.0, float(elevation_deg), target=(0.0, 0.0, 0.0))], 128, 128)
    depths, alphas = render_depths(ground(0.15, 0.1), cameras)
    rays = rays_of(cameras, 0)
    lengths = -rays.origins[:, 2] / rays.directions[:, 2]
    meets = rays.origins + rays.directions * lengths[:, None]
    is_near = (lengths > 0) & (meets[:, :2].abs().amax(dim=1) < 1.5)
    assert is_near.sum() > 100
    gaps = depths.flatten() - lengths * rays.cosines
    assert gaps[is_near].abs().mean() < limit


def test_a_round_gaussian_has_one_depth_and_a_flat_one_that_of_its_disc(scene):
    camera = toy_cameras(1, 24)
    round_ones = scene.replace(log_scales=torch.full_like(scene.log_scales, -3.0))
    for gaussians in (round_ones, scene):
        planes = inverse_depth_planes(gaussians, camera)
        pixels, depths = camera.pixels(0, gaussians.means)
        seen = (planes[:, :2] * pixels).sum(1) + planes[:, 2]
        is_in_front = depths > 0.5
        torch.testing.assert_close((1 / seen)[is_in_front], depths[is_in_front], rtol=1e-3, atol=1e-3)


def test_what_shows_nothing_has_no_depth(scene):
    depths, alphas = render_depths(scene.select(slice(0, 0)), toy_cameras(2, 16))
    assert depths.shape == alphas.shape == (2, 16, 16)
    assert not depths.any()
    assert not alphas.any()
