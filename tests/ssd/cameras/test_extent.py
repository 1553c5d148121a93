"""The extent of the cameras: against numpy, and where cameras say no length."""

import numpy as np
import pytest
import torch

from tests.edit_world import REPOSITORY, toy_cameras
from threestudio_ssd.cameras import cameras_extent, concatenate, load_cameras, orbit_cameras

POINTS = torch.tensor([[0.0, 0, 0], [0, 0, 1], [0, 1, 0]])


def standing_at(*places):
    """Cameras at these centres, looking along +z."""
    cameras = toy_cameras(len(places), 8)
    cameras.viewmats = torch.eye(4).repeat(len(places), 1, 1)
    cameras.viewmats[:, :3, 3] = -torch.tensor(places)
    return cameras


def test_it_is_a_tenth_more_than_the_farthest_camera_from_their_mean():
    """As INRIA's getNerfppNorm computes it, here in numpy from the inverses."""
    cameras = toy_cameras(7, 8)
    centers = np.linalg.inv(cameras.viewmats.double().numpy())[:, :3, 3]
    farthest = max(np.sqrt(((center - centers.sum(0) / 7) ** 2).sum()) for center in centers)
    assert cameras_extent(cameras) == pytest.approx(1.1 * farthest, rel=1e-5)
    assert cameras_extent(cameras, POINTS) == cameras_extent(cameras)
    assert cameras_extent(standing_at([0.0, 0, 0], [2.0, 0, 0])) == pytest.approx(1.1)


def test_a_full_turn_has_the_orbit_s_radius_and_a_tenth():
    cameras = orbit_cameras([3.0, 4.0, 5.0], 2.0, 0.0, torch.arange(0, 360, 10), 40, 8, 8)
    assert cameras_extent(cameras) == pytest.approx(2.2, rel=1e-4)


def test_neighbours_are_far_below_their_distance():
    """The four photographs of the shipped capture from which docs/growth.md measures."""
    capture = load_cameras(REPOSITORY / "data" / "banana")
    rows = [capture.names.index(name) for name in ("DSC_0423", "DSC_0424", "DSC_0425", "DSC_0438")]
    assert cameras_extent(capture[rows]) == pytest.approx(0.908, abs=1e-3)
    assert cameras_extent(capture) == pytest.approx(5.224, abs=1e-3)


@pytest.mark.parametrize("count", [1, 3])
def test_cameras_at_one_place_are_measured_by_their_distance_to_the_scene(count):
    cameras = standing_at(*[[0.0, 0.0, -4.0 + 1e-4 * row] for row in range(count)])
    assert cameras_extent(cameras, POINTS) == pytest.approx(17**0.5, rel=1e-3)
    broken = torch.cat([POINTS, torch.full((4, 3), float("nan"))])
    assert cameras_extent(cameras, broken) == pytest.approx(17**0.5, rel=1e-3)


def test_where_nothing_says_a_length_it_is_one():
    camera = standing_at([1.0, 2.0, 3.0])
    assert cameras_extent(camera) == 1
    assert cameras_extent(camera, torch.zeros(0, 3)) == 1
    assert cameras_extent(concatenate([camera, camera]), camera.centers) == 1
