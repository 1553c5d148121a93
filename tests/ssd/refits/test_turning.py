"""Views that were drawn from a little beside where their cameras are, turned to where they agree."""

import pytest
import torch

from tests.edit_world import toy_cameras
from tests.oracle import toy_truth
from threestudio_ssd.masks.region import Region
from threestudio_ssd.metrics import mask_iou
from threestudio_ssd.refits.hull import Hull
from threestudio_ssd.refits.turning import turned_about, turned_to_agree
from threestudio_ssd.rendering import coverage

UP_IS_Y = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])


def region_of(axes=None):
    axes = torch.eye(3) if axes is None else axes
    middle = torch.tensor([0.0, 0, 1.2])
    return Region(axes, axes @ middle, torch.tensor([1.6, 1.6, 1.4]))


def shares_of(thing, cameras):
    return coverage(*toy_truth(f"red plain {thing} grass day", 5), cameras)[:, None]


def drawn_beside(thing, generator, most_deg):
    """The hull of views from cameras that were turned at random, as one that knows only where they should be."""
    cameras, region = toy_cameras(16, 48), region_of()
    turns_deg = most_deg * (2 * torch.rand(len(cameras), generator=generator) - 1)
    return Hull(region, cameras, shares_of(thing, turned_about(cameras, region, turns_deg)), 0.06)


def overlap(hull, thing):
    """IoU of the object that views agree on with the true one, in the views as they should be."""
    cameras = toy_cameras(16, 48)
    return float(mask_iou(hull.outlines(hull.best_agreement(), cameras), shares_of(thing, cameras)[:, 0] > 0.5).mean())


def test_a_car_drawn_from_beside_gets_its_shape_back(generator):
    hull = drawn_beside("car", generator, 15.0)
    before, after = overlap(hull, "car"), overlap(turned_to_agree(hull, 15.0), "car")
    assert after > before + 0.02
    assert overlap(drawn_beside("car", generator, 0.0), "car") > after


@pytest.mark.parametrize(("thing", "most_deg"), [("ball", 15.0), ("cone", 15.0), ("car", 0.0)])
def test_round_things_and_views_that_agree_hardly_turn(generator, thing, most_deg):
    hull = drawn_beside(thing, generator, most_deg)
    turned = turned_to_agree(hull, 15.0)
    ways = torch.linalg.vecdot(turned.cameras.centers, hull.cameras.centers) / hull.cameras.centers.square().sum(1)
    assert ways.clamp(max=1).acos().rad2deg().median() < 3
    assert overlap(turned, thing) == pytest.approx(overlap(hull, thing), abs=0.01)
    assert turned_to_agree(hull, 0.0) is hull


@pytest.mark.parametrize("turn_deg", [20.0, -35.0])
@pytest.mark.parametrize("axes", [torch.eye(3), UP_IS_Y])
def test_cameras_go_round_the_axis_of_the_region(axes, turn_deg):
    region, cameras = region_of(axes), toy_cameras(4, 32)
    turned = turned_about(cameras, region, torch.full((4,), turn_deg))
    before, after = ((each.centers - region.middle) @ axes.T for each in (cameras, turned))
    torch.testing.assert_close(after[:, 2], before[:, 2])
    way = torch.atan2(before[:, 1], before[:, 0]) - torch.atan2(after[:, 1], after[:, 0])
    torch.testing.assert_close(way.rad2deg().remainder(360), torch.full((4,), turn_deg % 360), atol=1e-2, rtol=0)
    middle = region.middle.expand(4, 3)
    for row in range(4):
        torch.testing.assert_close(turned.pixels(row, middle), cameras.pixels(row, middle), atol=1e-3, rtol=1e-4)
