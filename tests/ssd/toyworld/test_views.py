"""Where the toy world is looked at from: the same cameras each time, and no judge's view in a capture."""

from dataclasses import replace

import numpy as np
import torch

from threestudio_ssd.toyworld import sample_view
from threestudio_ssd.toyworld.captions import FRAMINGS, framing_of, view_words
from threestudio_ssd.toyworld.splat import to_cameras
from threestudio_ssd.toyworld.views import (
    capture_views,
    framings_of_views,
    held_out_orbit,
    single_view,
    words_of_views,
)


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


def test_cameras_get_the_words_that_captions_of_training_have():
    rng = np.random.default_rng(0)
    views = [sample_view(rng, is_wide=True) for _ in range(200)]
    cameras = to_cameras([view.camera for view in views], 64, 64)
    for thing in ("car", "cube", "ball", ""):
        expected = [view_words(thing, view.azimuth_deg - 30, view.elevation_deg) for view in views]
        same = [ours == theirs for ours, theirs in zip(words_of_views(cameras, thing, 30), expected, strict=True)]
        assert np.mean(same) > 0.98, thing
    expected = [framing_of(view.share, view.offset) for view in views]
    assert set(expected) == set(FRAMINGS)
    same = [ours == theirs for ours, theirs in zip(framings_of_views(cameras), expected, strict=True)]
    assert np.mean(same) > 0.97


def test_a_crop_is_a_closeup_and_an_object_at_its_edge_a_snapshot():
    camera = single_view(0, 64)
    assert framings_of_views(camera) == [""]
    Ks = camera.Ks.clone()
    Ks[:, 0, 2] += 20
    assert framings_of_views(replace(camera, Ks=Ks)) == ["snapshot"]
    Ks = camera.Ks.clone()
    Ks[:, [0, 1], [0, 1]] *= 2
    assert framings_of_views(replace(camera, Ks=Ks)) == ["closeup"]
    assert framings_of_views(camera, height=1.0) == ["panorama"]
