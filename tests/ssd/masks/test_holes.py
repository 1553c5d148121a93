"""The hole an object leaves: its rim, where it shows, and the surface that closes it."""

import pytest
import torch

from tests.edit_world import toy_cameras, toy_parts
from threestudio_ssd.masks.holes import continued_depth, hole_masks, rim_of, seeds_in_hole
from threestudio_ssd.rendering import coverage, render

BLACK = torch.zeros(3)


@pytest.fixture(scope="module")
def toy():
    """A toy scene whose ground has a hole under the object, as no picture ever showed it."""
    gaussians, is_object = toy_parts(keep_every=2)
    under = ~is_object & (gaussians.means[:, :2].norm(dim=1) < 0.75) & (gaussians.means[:, 2] < 0.1)
    return gaussians.select(~under), is_object[~under]


def test_the_rim_is_what_lies_near(toy):
    gaussians, is_object = toy
    rim = rim_of(gaussians.means, is_object, 0.2)
    assert 0 < rim.sum() < 0.1 * len(gaussians)
    assert not (rim & is_object).any()
    assert gaussians.means[rim][:, 2].max() < 0.1
    assert gaussians.means[rim][:, :2].norm(dim=1).max() < 1.8
    assert not rim_of(gaussians.means, is_object, 0.0).any()


def test_the_hole_shows_only_where_the_object_stood(toy):
    gaussians, is_object = toy
    cameras = toy_cameras(4, 48)
    masks = hole_masks(gaussians, is_object, rim_of(gaussians.means, is_object, 0.2), cameras, dilate=1)
    object_pixels = coverage(gaussians, is_object, cameras) > 0.5
    assert masks.flatten(1).any(dim=1).all()
    assert masks.sum() < 0.8 * object_pixels.sum()
    # the spot on the ground where the object stood is in it, the object's top is not
    for camera, mask in zip(range(4), masks, strict=True):
        for point, expected in (([0.0, 0.0, 0.0], True), ([0.0, 0.0, 1.9], False)):
            place = cameras.viewmats[camera][:3, :3] @ torch.tensor(point) + cameras.viewmats[camera][:3, 3]
            u, v, w = cameras.Ks[camera] @ place
            assert bool(mask[int(v / w), int(u / w)]) == expected


def test_a_plane_goes_on_through_the_hole():
    cameras = toy_cameras(1, 40)
    K, viewmat = cameras.Ks[0].double(), cameras.viewmats[0].double()
    y, x = torch.meshgrid(torch.arange(40) + 0.5, torch.arange(40) + 0.5, indexing="ij")
    rays = torch.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], torch.ones_like(x)], -1).double()
    normal = viewmat[:3, :3] @ torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    depths = (normal @ viewmat[:3, 3] - 0.9) / (rays @ normal)  # the plane z = -0.9, all of it in view
    mask = torch.zeros(40, 40, dtype=torch.bool)
    mask[25:35, 12:30] = True
    broken = torch.where(mask, torch.full_like(depths, 50.0), depths)
    assert depths[20:].min() > 0
    torch.testing.assert_close(continued_depth(broken, mask)[22:], depths[22:], rtol=1e-6, atol=0)
    assert torch.equal(continued_depth(depths, mask & False), depths)
    to_the_border = torch.zeros_like(mask)
    to_the_border[30:, 10:20] = True
    assert torch.isfinite(continued_depth(broken, to_the_border)).all()


def test_seeds_lie_on_the_ground_inside_the_hole(toy):
    gaussians, is_object = toy
    cameras = toy_cameras(4, 48)
    masks = hole_masks(gaussians, is_object, rim_of(gaussians.means, is_object, 0.2), cameras, dilate=1)
    left = gaussians.select(~is_object)
    images = torch.cat([render(left, cameras[row], BLACK)[0] for row in range(4)])
    points, rgbs, widths = seeds_in_hole(left, cameras, images, masks)
    assert len(points) > 20
    assert points[:, 2].abs().quantile(0.9) < 0.08
    assert points[:, :2].norm(dim=1).quantile(0.9) < 1.2
    assert rgbs.shape == points.shape
    assert (widths > 0).all()
    nothing = seeds_in_hole(left, cameras, images, masks & False)
    assert [len(part) for part in nothing] == [0, 0, 0]
