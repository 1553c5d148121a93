"""Where cameras stand, and which of them a step shows."""

import pytest
import torch

from tests.edit_world import toy_cameras
from threestudio_ssd.cameras import Orbit
from threestudio_ssd.data import even_orbit, random_orbit, turntable, view_order
from threestudio_ssd.data.views import OrbitRange, capture_orbit, spread_subset

CENTER, UP = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([0.0, 0.0, 1.0])
ORBIT = Orbit(CENTER, 3.0, UP, torch.ones(3))
WHERE = OrbitRange((10.0, 40.0), (0.9, 1.2), 50.0)


def places(cameras):
    """Azimuth and elevation in degrees and distance of each camera from the centre."""
    away = (cameras.centers - CENTER).double()
    distances = away.norm(dim=1)
    azimuths = torch.atan2(away[:, 1], away[:, 0]).rad2deg() % 360
    return azimuths, torch.asin(away[:, 2] / distances).rad2deg(), distances


def test_training_views_cover_the_ranges_evenly():
    cameras = random_orbit(ORBIT, WHERE, 40, (64, 48), seed=0)
    azimuths, elevations, distances = places(cameras)
    assert len(cameras) == 40
    assert cameras.widths.unique().tolist() == [64]
    assert cameras.heights.unique().tolist() == [48]
    ordered = azimuths.sort().values
    assert torch.cat([ordered.diff(), ordered[:1] + 360 - ordered[-1:]]).max() < 20
    for values, low, high in ((elevations, 10, 40), (distances, 2.7, 3.6)):
        assert values.min() > low - 1e-3
        assert values.max() < high + 1e-3
        shares = ((values - low) / (high - low) * 40).floor().clamp(0, 39)
        assert len(shares.unique()) >= 37
    torch.testing.assert_close(
        (cameras.forwards * (CENTER - cameras.centers)).sum(1), distances.float(), rtol=1e-4, atol=1e-4
    )
    fov = 2 * torch.atan(24 / cameras.Ks[:, 1, 1]).rad2deg()
    torch.testing.assert_close(fov, torch.full_like(fov, 50), rtol=0, atol=1e-3)


def test_training_views_follow_their_seed():
    first, same, other = (random_orbit(ORBIT, WHERE, 8, (16, 16), seed) for seed in (1, 1, 2))
    assert torch.equal(first.viewmats, same.viewmats)
    assert not torch.equal(first.viewmats, other.viewmats)


def test_held_out_views_and_turntable():
    test, video = even_orbit(ORBIT, WHERE, 8, (32, 32)), turntable(ORBIT, WHERE, 12, (32, 32))
    azimuths, elevations, distances = places(test)
    torch.testing.assert_close(
        azimuths.sort().values.diff(), torch.full((7,), 45.0, dtype=torch.float64), atol=1e-2, rtol=0
    )
    assert elevations.min() > 10
    assert elevations.max() < 40
    assert len((elevations * 10).round().unique()) == 2
    torch.testing.assert_close(distances, torch.full_like(distances, 3.15), rtol=1e-4, atol=0)
    azimuths, elevations, _ = places(video)
    torch.testing.assert_close(elevations, torch.full_like(elevations, 25.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        azimuths.sort().values.diff(), torch.full((11,), 30.0, dtype=torch.float64), atol=1e-2, rtol=0
    )
    assert len(turntable(ORBIT, WHERE, 0, (32, 32))) == 0


@pytest.mark.parametrize(("num_views", "batch_size"), [(6, 1), (6, 2), (7, 3), (3, 5), (1, 2)])
def test_each_view_is_shown_once_a_round(num_views, batch_size):
    steps = num_views * 4
    order = torch.cat([view_order(num_views, step, batch_size, seed=0) for step in range(steps)])
    assert order.dtype == torch.int64
    rounds = order.reshape(-1, num_views)
    assert all(sorted(turn.tolist()) == list(range(num_views)) for turn in rounds)


def test_the_order_is_a_pure_function_of_step_and_seed():
    whole = [view_order(10, step, 2, seed=5).tolist() for step in range(30)]
    torch.manual_seed(99)
    assert [view_order(10, step, 2, seed=5).tolist() for step in (29, 3, 17)] == [whole[29], whole[3], whole[17]]
    assert whole[:5] != whole[5:10]
    assert whole != [view_order(10, step, 2, seed=6).tolist() for step in range(30)]


def test_a_capture_s_orbit_is_found():
    """The toy capture looks at (0, 0, 0.9) from 5.4 away, 15 to 35 degrees up, opening angle 40."""
    orbit, where = capture_orbit(toy_cameras(24))
    torch.testing.assert_close(orbit.center, torch.tensor([0.0, 0.0, 0.9]), atol=1e-3, rtol=0)
    torch.testing.assert_close(orbit.up, torch.tensor([0.0, 0.0, 1.0]), atol=1e-3, rtol=0)
    assert orbit.radius == pytest.approx(5.4, abs=1e-3)
    assert where.elevation_deg == pytest.approx((15, 35), abs=0.01)
    assert where.radius_scale == pytest.approx((1, 1), abs=1e-3)
    assert where.fov_y_deg == pytest.approx(40, abs=1e-3)
    seen = even_orbit(orbit, where, 8, (16, 16))
    assert (seen.centers - orbit.center).norm(dim=1).sub(5.4).abs().max() < 1e-3


def test_a_capture_that_does_not_go_round_has_no_orbit():
    cameras = toy_cameras(24)
    assert capture_orbit(cameras[:10]) is None
    assert capture_orbit(cameras[::4]) is None
    assert capture_orbit(cameras[::3]) is not None


def test_subsets():
    cameras = toy_cameras(12)
    assert spread_subset(cameras, 12) is cameras
    assert spread_subset(cameras, 20) is cameras
    assert spread_subset(cameras, 4).names == [f"view_{index:03d}" for index in (0, 4, 7, 11)]
    first, same, other = (spread_subset(cameras, 5, seed).names for seed in (0, 0, 1))
    assert first == same == sorted(first)
    assert len(set(first)) == 5
    assert first != other
