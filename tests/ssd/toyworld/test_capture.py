"""Toy scenes on disk: what the project reads back is what the world made."""

import numpy as np
import torch
from PIL import Image

from threestudio_ssd.cameras import load_cameras
from threestudio_ssd.gaussians.io import load_gaussians
from threestudio_ssd.toyworld import PART_OBJECT, Attributes, build_scene
from threestudio_ssd.toyworld.capture import in_capture, write_capture, write_scene
from threestudio_ssd.toyworld.splat import to_gaussians
from threestudio_ssd.toyworld.views import capture_views


def test_an_embedded_scene_can_be_read_back(tmp_path):
    write_scene(tmp_path, Attributes(), 3)
    gaussians, cameras = load_gaussians(tmp_path / "scene.ply"), load_cameras(tmp_path / "cameras.json")
    assert len(gaussians) == len(build_scene(Attributes(), 3).means)
    assert len(cameras) == 96
    assert {path.stem for path in (tmp_path / "masks").iterdir()} <= set(cameras.names)


def test_a_capture_has_masks_of_the_object_alone_and_none_without_one(tmp_path):
    scene, cameras = build_scene(Attributes(), 3), capture_views(6, 32)
    gaussians, is_object = to_gaussians(scene), torch.from_numpy(scene.parts == PART_OBJECT)
    write_capture(tmp_path / "with", gaussians, is_object, cameras, mask_size=24, num_masks=3)
    write_capture(tmp_path / "without", gaussians, torch.zeros_like(is_object), cameras, mask_size=24)
    masks = sorted((tmp_path / "with" / "masks").iterdir())
    assert [path.stem for path in masks] == cameras.names[::2]
    pixels = np.stack([np.asarray(Image.open(path)) for path in masks])
    assert pixels.shape == (3, 24, 24)
    assert set(np.unique(pixels)) == {0, 255}
    assert 0.02 < (pixels > 0).mean() < 0.5
    assert not list((tmp_path / "without" / "masks").iterdir())


def test_what_no_camera_sees_is_in_no_capture():
    gaussians = to_gaussians(build_scene(Attributes(), 3))
    hidden = gaussians.means.norm(dim=1) < 0.3
    is_there = in_capture(gaussians, capture_views(12, 32))
    assert hidden.any()
    assert not is_there[hidden].any()
    assert 0.5 < is_there.float().mean() < 0.97
