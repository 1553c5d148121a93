"""Where the toy world is looked at from: the same cameras each time, and no judge's view in a capture."""

import torch

from threestudio_ssd.toyworld.views import capture_views, held_out_orbit, single_view


def azimuths_of(cameras):
    return torch.atan2(cameras.centers[:, 1], cameras.centers[:, 0]).rad2deg() % 360


def test_held_out_orbit_sees_the_scene_from_all_sides():
    assert torch.allclose(azimuths_of(held_out_orbit(8)), torch.arange(8) * 45 + 22.5, atol=1e-3)


def test_a_capture_is_drawn_the_same_each_time_and_holds_no_view_of_the_judge():
    capture = capture_views(6, 16)
    assert torch.equal(capture.viewmats, capture_views(9, 32).viewmats[:6])
    assert not torch.equal(capture.viewmats, capture_views(6, 16, seed=78).viewmats)
    assert torch.cdist(capture.centers, held_out_orbit(16).centers).min() > 0.05
    assert torch.allclose(capture.centers[0], torch.tensor([-2.45901, 4.35228, 2.58814]), atol=1e-4)


def test_single_views_go_round_in_steps_of_47_degrees():
    views = [single_view(place, 16) for place in range(3)]
    assert [round(float(azimuths_of(view)[0]), 3) for view in views] == [22.5, 69.5, 116.5]
