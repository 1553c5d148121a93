"""Whether a scene lies where its capture says, from renders that stand for photographs."""

from dataclasses import replace

import pytest
import torch

from tests.edit_world import toy_cameras, toy_parts, write_photographs
from threestudio_ssd.data.agreement import CAMERA_AXES, INVERTED, WORLD_AXES, check_capture
from threestudio_ssd.errors import ConfigError


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("capture")
    gaussians, _ = toy_parts()
    cameras = toy_cameras(8, 64)
    names = write_photographs(folder, gaussians, cameras)
    return gaussians, replace(cameras, image_paths=[folder / "images" / name for name in names])


def test_a_scene_and_its_capture_pass(capture):
    check_capture(*capture, "here")


@pytest.mark.parametrize("axes", [*CAMERA_AXES, *WORLD_AXES, INVERTED])
def test_the_axes_that_would_fit_are_named(capture, axes):
    gaussians, cameras = capture
    poses = cameras.viewmats
    turn = {**CAMERA_AXES, **WORLD_AXES}.get(axes)
    if turn is None:
        turned = torch.linalg.inv(poses)
    else:
        turned = turn.T @ poses if axes in CAMERA_AXES else poses @ turn.T
    with pytest.raises(ConfigError, match="dB") as error:
        check_capture(gaussians, replace(cameras, viewmats=turned), "here")
    assert error.value.fix.startswith(f"{axes} would fit, with ")


def test_cameras_that_look_elsewhere_are_refused(capture):
    gaussians, cameras = capture
    poses = cameras.viewmats.clone()
    poses[:, 2, 3] += 1000
    with pytest.raises(ConfigError, match="cameras here hardly see the scene: it covers 0"):
        check_capture(gaussians, replace(cameras, viewmats=poses, image_paths=[None] * 8), "here")
