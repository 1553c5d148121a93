"""Rays of several cameras in the frame of the object that they look at."""

from dataclasses import replace

import pytest
import torch

from threestudio_ssd.cameras import Cameras
from threestudio_ssd.cameras.rays import ObjectViews, cell_rays
from threestudio_ssd.toyworld.views import OBJECT_CENTER, held_out_orbit


@pytest.fixture
def views():
    return ObjectViews.of(held_out_orbit(64))


def test_the_object_is_where_all_cameras_look(views):
    torch.testing.assert_close(views.frame.center, torch.tensor(OBJECT_CENTER), atol=1e-4, rtol=0)
    torch.testing.assert_close(views.frame.axes[2], torch.tensor([0.0, 0.0, 1.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(views.frame.axes @ views.frame.axes.T, torch.eye(3), atol=1e-5, rtol=0)
    assert views.frame.unit == pytest.approx(5.4, abs=1e-4)


def test_a_window_of_a_picture_has_its_own_middle():
    """A view cut so that the object leaves the middle sends its rays elsewhere."""
    cameras = held_out_orbit(64)
    cut = Cameras(cameras.viewmats, cameras.Ks, cameras.widths // 2, cameras.heights, cameras.names)
    left = cell_rays(cut, (1, 1))[:, 0]
    torch.testing.assert_close(left, cell_rays(cameras, (1, 2))[:, 0], atol=1e-6, rtol=0)


def test_the_moment_is_that_of_every_point_on_the_ray(views):
    directions, moments = views.plucker((4, 6)).split(3, dim=-1)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(8, 24), atol=1e-5, rtol=0)
    origins = (views.cameras.centers - views.frame.center) @ views.frame.axes.T / views.frame.unit
    points = origins[:, None] + 0.7 * directions
    torch.testing.assert_close(torch.linalg.cross(points, directions), moments, atol=1e-5, rtol=0)


def test_a_ray_that_passes_an_object_says_how_far_to_its_right_and_below_it(views):
    """A camera's own axes measure it: the ray through the image of a point beside the middle passes it that far."""
    cameras, frame = views.cameras, views.frame
    passing = ObjectViews(cameras, replace(frame, unit=2.0)).passing((64, 64)).movedim(1, -1)
    torch.testing.assert_close(passing[..., :3].flatten(1, 2), views.plucker((64, 64))[..., :3])
    for view in range(len(cameras)):
        right, down = cameras.viewmats[view, :2, :3]
        for offset, expected in ((0.5 * right, [0.25, 0.0]), (0.3 * down, [0.0, 0.15])):
            (column, row), _ = (each[0] for each in cameras.pixels(view, (frame.center + offset)[None]))
            found = passing[view, int(row), int(column), 6:]
            torch.testing.assert_close(found, torch.tensor(expected), atol=0.03, rtol=0)


def test_rays_go_through_the_cells_that_they_are_of(views):
    rows, columns = torch.meshgrid((torch.arange(4) + 0.5) / 4, (torch.arange(6) + 0.5) / 6, indexing="ij")
    middles = 64 * torch.stack([columns, rows], -1).flatten(0, 1)
    points = views.cameras.centers[:, None] + 3 * cell_rays(views.cameras, (4, 6))
    for view, of_view in enumerate(points):
        pixels, depths = views.cameras.pixels(view, of_view)
        torch.testing.assert_close(pixels, middles, atol=1e-3, rtol=0)
        assert (depths > 0).all()


def test_the_frame_moves_with_the_world(views):
    """A scene that is turned, moved and enlarged gives the same coordinates, but for a turn about the upright axis."""
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    turn = turn * torch.linalg.det(turn)
    shift, scale, cameras = torch.tensor([3.0, -2.0, 7.0]), 2.5, views.cameras
    viewmats = cameras.viewmats.clone()
    viewmats[:, :3, :3] = cameras.viewmats[:, :3, :3] @ turn.T
    centers = scale * cameras.centers @ turn.T + shift
    viewmats[:, :3, 3] = -(viewmats[:, :3, :3] @ centers[..., None])[..., 0]
    moved = ObjectViews.of(Cameras(viewmats, cameras.Ks, cameras.widths, cameras.heights, cameras.names))
    assert moved.frame.unit == pytest.approx(scale * views.frame.unit, rel=1e-4)
    torch.testing.assert_close(moved.frame.center, scale * turn @ views.frame.center + shift, atol=1e-3, rtol=0)
    for ours, theirs in zip(moved.plucker((3, 3)).split(3, -1), views.plucker((3, 3)).split(3, -1), strict=True):
        torch.testing.assert_close(ours[..., 2], theirs[..., 2], atol=1e-3, rtol=0)
        torch.testing.assert_close(ours.norm(dim=-1), theirs.norm(dim=-1), atol=1e-3, rtol=0)
