"""Cut views: the object fills them, pixels stay where they were, and the size does not change."""

import pytest
import torch

from tests.edit_world import toy_cameras, toy_parts
from threestudio_ssd.data.crop import bounds_of, crop_to_selection, framed_alike, window
from threestudio_ssd.data.modules import GSViews
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.rendering import coverage, render
from threestudio_ssd.toyworld.views import capture_views


@pytest.fixture(scope="module")
def toy():
    gaussians, is_object = toy_parts(keep_every=8)
    # the top of the object: small in the views
    return gaussians, is_object & (gaussians.means[:, 2] > 1.5)


def test_bounds_of_some_pixels():
    is_shown = torch.zeros(10, 20, dtype=torch.bool)
    is_shown[2:5, 4:16] = True
    assert bounds_of(is_shown).tolist() == pytest.approx([0.2, 0.2, 0.8, 0.5])


@pytest.mark.parametrize(
    ("bounds", "margin", "zoom", "expected"),
    [
        ([0.4, 0.4, 0.6, 0.5], 0.0, 10.0, (0.4, 0.35, 0.2)),
        ([0.4, 0.4, 0.6, 0.5], 0.5, 10.0, (0.3, 0.25, 0.4)),
        ([0.0, 0.0, 0.2, 0.2], 0.5, 10.0, (0.0, 0.0, 0.4)),
        ([0.8, 0.9, 1.0, 1.0], 0.5, 10.0, (0.6, 0.6, 0.4)),
        ([0.5, 0.5, 0.51, 0.51], 0.0, 4.0, (0.38, 0.38, 0.25)),
        ([0.1, 0.0, 0.9, 1.0], 0.25, 4.0, (0.0, 0.0, 1.0)),
    ],
)
def test_windows_hold_the_bounds_and_stay_inside(bounds, margin, zoom, expected):
    assert window(torch.tensor(bounds, dtype=torch.float64), margin, zoom) == pytest.approx(expected, abs=1e-6)


def test_the_selection_fills_the_cut_views(toy):
    gaussians, is_small = toy
    cameras = toy_cameras(4, 64)
    cut = crop_to_selection(cameras, gaussians, is_small, 0.25, 20.0)
    assert cut.names == cameras.names
    assert cut.widths.tolist() == cut.heights.tolist() == [64] * 4
    before, after = (coverage(gaussians, is_small, views).mean(dim=(1, 2)) for views in (cameras, cut))
    assert (after > 1.7 * before).all()
    edges = coverage(gaussians, is_small, cut) > 0.5
    assert not edges[:, 0].any()
    assert not edges[:, :, 0].any()


def test_a_cut_view_shows_the_same_points(toy):
    """A world point lands on the same spot of the picture, seen through the window."""
    gaussians, is_small = toy
    cameras = toy_cameras(3, 64).resized(96, 64)
    cut = crop_to_selection(cameras, gaussians, is_small, 0.25, 20.0)
    assert (int(cut.widths[0]), int(cut.heights[0])) == (96, 64)
    assert torch.equal(cut.viewmats, cameras.viewmats)
    ratios = torch.stack([cut.Ks[:, 0, 0] / cameras.Ks[:, 0, 0], cut.Ks[:, 1, 1] / cameras.Ks[:, 1, 1]])
    torch.testing.assert_close(ratios[0], ratios[1], rtol=2e-3, atol=0)
    assert ratios.min() > 1.2


def test_views_without_the_selection_are_left_out_and_none_at_all_is_said(toy):
    from threestudio_ssd.cameras import concatenate

    gaussians, is_small = toy
    cameras = toy_cameras(2, 32)
    away = cameras[0].cropped(-900, 0, 32, 32)
    assert crop_to_selection(concatenate([away, cameras]), gaussians, is_small, 0.2, 4.0).names == cameras.names
    with pytest.raises(ConfigError) as error:
        crop_to_selection(away, gaussians, is_small, 0.2, 4.0)
    assert error.value.what == "data.crop is selection, but none of 1 views shows the selection"


def test_the_data_module_cuts_when_asked_and_keeps_sizes_apart(toy):
    gaussians, is_small = toy
    keys = {
        "num_train_views": 4,
        "num_test_views": 1,
        "test_size": 16,
        "video_frames": 0,
        "up": "+z",
        "render_size": 40,
    }
    plain = GSViews(keys)
    views = plain.plan.views(gaussians, 64, 8)
    assert views.size == (64, 64)
    assert views.train.widths.tolist() == [40] * 4
    assert plain.plan.cropped(views, gaussians, is_small) is views
    cut = GSViews({**keys, "crop": "selection"}).plan.cropped(views, gaussians, is_small)
    assert cut.size == (64, 64)
    assert cut.train.widths.tolist() == [40] * 4
    assert (cut.train.Ks[:, 0, 0] > 1.5 * views.train.Ks[:, 0, 0]).all()
    assert render(gaussians, cut.train[0], torch.zeros(3))[0].shape == (1, 40, 40, 3)


def test_views_that_are_framed_alike_show_a_point_in_the_middle_and_things_as_large():
    cameras, point = capture_views(6, 64).resized(96, 64), torch.tensor([0.1, 0.0, 0.7])
    alike = framed_alike(cameras, point)
    assert torch.equal(alike.viewmats, cameras.viewmats)
    assert (alike.widths.tolist(), alike.heights.tolist()) == ([96] * 6, [64] * 6)
    for row in range(6):
        assert alike.pixels(row, point[None])[0][0].tolist() == pytest.approx([48, 32], abs=1e-3)
    before, after = (each.Ks[:, 1, 1] / (each.centers - point).norm(dim=1) for each in (cameras, alike))
    assert before.max() / before.min() > 1.1
    torch.testing.assert_close(after, before.mean().expand(6))
    torch.testing.assert_close(alike.Ks[:, 0, 0] / alike.Ks[:, 1, 1], cameras.Ks[:, 0, 0] / cameras.Ks[:, 1, 1])


def test_a_point_behind_a_camera_frames_nothing():
    cameras = toy_cameras(2, 32)
    assert framed_alike(cameras, 2 * cameras.centers[0]) is cameras


def test_views_that_cannot_be_cut_are_framed_alike_and_others_are_cut(toy):
    gaussians, is_small = toy
    keys = {"num_train_views": 4, "num_test_views": 1, "video_frames": 0, "up": "+z", "crop": "selection"}
    plan, point = GSViews(keys).plan, torch.tensor([0.0, 0.0, 0.9])
    views = plan.views(gaussians, 64, 8)
    whole = plan.cropped_on(views, lambda cameras: torch.ones(len(cameras), 1, 32, 32), point).train
    assert all(whole.pixels(row, point[None])[0][0].tolist() == pytest.approx([32, 32], abs=1e-3) for row in range(4))
    small = plan.cropped_on(views, lambda cameras: coverage(gaussians, is_small, cameras)[:, None], point).train
    assert (small.Ks[:, 1, 1] > 1.2 * views.train.Ks[:, 1, 1]).all()
    kept = GSViews({**keys, "crop": "none"}).plan.cropped_on(views, lambda cameras: torch.ones(4, 1, 32, 32), point)
    assert kept is views
