"""Agreement of views: known differences on a plane that every view sees."""

import pytest
import torch

from threestudio_ssd.metrics import view_agreement

SIDE = 16


@pytest.fixture
def plane():
    """Three cameras side by side, looking at the plane z = 4 along its normal."""
    viewmats = torch.eye(4).repeat(3, 1, 1)
    viewmats[:, 0, 3] = torch.tensor([0.0, 0.5, -0.5])
    Ks = torch.tensor([[16.0, 0, 8], [0, 16, 8], [0, 0, 1]]).repeat(3, 1, 1)
    return torch.full((3, 1, SIDE, SIDE), 4.0), viewmats, Ks


def test_views_of_one_colour_agree(plane):
    result = view_agreement(torch.full((3, 3, SIDE, SIDE), 0.3), *plane)
    assert result.difference == pytest.approx(0, abs=1e-6)
    assert result.num_pairs > 3 * SIDE * SIDE


def test_the_difference_is_that_of_the_colours(plane):
    images = torch.tensor([0.2, 0.5, 0.2]).view(3, 1, 1, 1).expand(3, 3, SIDE, SIDE)
    result = view_agreement(images[:2], plane[0][:2], plane[1][:2], plane[2][:2])
    assert result.difference == pytest.approx(0.3, abs=1e-6)


def test_a_pattern_on_the_plane_agrees_and_a_pattern_on_the_screen_does_not(plane):
    depths, viewmats, Ks = plane
    columns = torch.arange(SIDE) + 0.5
    world = (columns - 8) / 16 * 4 - viewmats[:, 0, 3:4]
    ramp = (world / 8 + 0.5).view(3, 1, 1, SIDE).expand(3, 3, SIDE, SIDE)
    assert view_agreement(ramp, depths, viewmats, Ks).difference == pytest.approx(0, abs=1e-3)
    on_screen = (columns / SIDE).view(1, 1, 1, SIDE).expand(3, 3, SIDE, SIDE)
    assert view_agreement(on_screen, depths, viewmats, Ks).difference > 0.1


def test_what_another_view_does_not_see_is_not_compared(plane):
    depths, viewmats, Ks = plane
    hidden = depths.clone()
    hidden[1:] = 2.0
    result = view_agreement(torch.rand(3, 3, SIDE, SIDE)[:2], hidden[:2], viewmats[:2], Ks[:2])
    assert result == (None, 0)


def test_masks_choose_the_pixels(plane):
    images = torch.full((3, 3, SIDE, SIDE), 0.5)
    masks = torch.zeros(3, 1, SIDE, SIDE)
    masks[0, :, 8, 8] = 1
    assert view_agreement(images, *plane, masks).num_pairs == 2
