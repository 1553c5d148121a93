"""The region: what lies in it, where it is seen, and that it has room."""

import pytest
import torch

from tests.edit_world import toy_cameras
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.masks.region import Region, region_around, region_of_box

UP = torch.tensor([0.0, 0.0, 1.0])


def cylinder(radius=1.0, height=2.0):
    axes = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    return Region(axes, torch.tensor([0, 0, height / 2]), torch.tensor([radius, radius, height / 2]))


def test_a_cylinder_holds_its_points_and_brings_others_to_its_border():
    region = cylinder()
    points = torch.tensor([[0.9, 0, 0.1], [0.8, 0.8, 1.0], [0, 0, 2.1], [3.0, 0, -1.0]])
    assert region.contains(points).tolist() == [True, False, False, False]
    clamped = region.clamped(points)
    assert torch.equal(clamped[0], points[0])
    expected = torch.tensor([[0.5**0.5, 0.5**0.5, 1.0], [0, 0, 2.0], [1.0, 0, 0]])
    assert torch.allclose(clamped[1:], expected, atol=1e-6)
    assert region.size == 1.0


def test_a_box_is_a_box():
    region = region_of_box([-1, -2, 0, 1, 2, 3])
    assert region.contains(torch.tensor([[0.9, 1.9, 2.9], [1.1, 0, 1]])).tolist() == [True, False]
    assert torch.allclose(region.clamped(torch.tensor([[5.0, -5, 5]])), torch.tensor([[1.0, -2, 3]]))
    assert len(region.corners()) == 8
    with pytest.raises(ConfigError, match=r"system.region is \[1, 2\]"):
        region_of_box([1, 2])


@pytest.mark.parametrize("up", [UP, -UP, torch.tensor([0.0, -1.0, 0.0]), torch.tensor([1.0, 0.0, 0.0])])
def test_the_region_around_points_stands_upright_on_their_foot_with_room_above(up, generator):
    axis = up.double()
    across = torch.linalg.svd(axis[None]).Vh[1:].float()
    heights = torch.rand(4000, 1, generator=generator) * 2
    angles = torch.rand(4000, generator=generator) * 6.2832
    ring = angles.cos()[:, None] * across[0] + angles.sin()[:, None] * across[1]
    region = region_around(5 + ring + heights * up, up)
    assert torch.allclose(region.half, torch.tensor([1.3, 1.3, 1.35]), atol=0.02)
    foot, top = (region.world(torch.tensor([[0.0, 0, end]]))[0] - 5 for end in (-1.0, 1.0))
    assert torch.allclose(foot, torch.zeros(3), atol=0.03)
    assert torch.allclose(top, 2.7 * up, atol=0.03)


def test_a_flat_thing_may_become_tall_and_a_thin_one_wide(generator):
    flat = torch.rand(4000, 3, generator=generator) * torch.tensor([2.0, 2.0, 0.1])
    assert float(region_around(flat, UP).half[2]) > 0.9
    thin = torch.rand(4000, 3, generator=generator) * torch.tensor([0.1, 0.1, 2.0])
    assert float(region_around(thin, UP).half[0]) > 1.2


def test_masks_are_where_the_points_of_the_region_are_seen(generator):
    region, cameras = cylinder(), toy_cameras(4, 64)
    masks = region.masks(cameras)
    places = torch.rand(20000, 3, generator=generator) * 2 - 1
    points = region.world(places[places[:, :2].norm(dim=1) <= 1])
    for mask, viewmat, K in zip(masks[:, 0], cameras.viewmats, cameras.Ks, strict=True):
        local = points @ viewmat[:3, :3].T + viewmat[:3, 3]
        x, y = ((local @ K.T)[:, :2] / local[:, 2:]).floor().long().T
        seen = torch.zeros(64, 64)
        seen[y.clamp(0, 63), x.clamp(0, 63)] = 1
        assert (seen * (1 - mask)).sum() == 0
        assert (mask - seen).sum() < 0.3 * seen.sum()  # a pixel of its outline is added


def test_a_camera_in_the_region_sees_it_everywhere_and_one_that_looks_away_nowhere():
    cameras = toy_cameras(2, 16)
    inside, away = cameras[0], cameras[1]
    inside.viewmats[0, :3, 3] = -inside.viewmats[0, :3, :3] @ torch.tensor([0.0, 0, 1])
    away.viewmats[0, :3, :3] = torch.diag(torch.tensor([-1.0, 1, -1])) @ away.viewmats[0, :3, :3]
    away.viewmats[0, :3, 3] = torch.diag(torch.tensor([-1.0, 1, -1])) @ away.viewmats[0, :3, 3]
    assert cylinder().masks(inside).all()
    assert not cylinder().masks(away).any()
