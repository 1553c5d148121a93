"""The preview of a mask: the same selection as the run's, in pictures, without a diffusion model."""

import torch

from tests.edit_world import experiment, toy_cameras, write_world
from threestudio import apps
from threestudio_ssd.gaussians.io import load_gaussians
from threestudio_ssd.masks import MaskConfig, find_selection, load_selection


def test_previews_are_written_and_no_model_is_needed(tmp_path):
    (tmp_path / "world").mkdir()
    world = write_world(tmp_path / "world")
    cfg = experiment(world, tmp_path / "out", model=tmp_path / "no-model", tag="look")
    assert apps.start("preview", cfg) == 0
    save = tmp_path / "out" / "smoke" / "look" / "save"
    assert len(list((save / "mask").glob("*.png"))) == len(list((world / "masks").glob("*.png")))
    source, cameras = load_gaussians(world / "scene.ply"), toy_cameras()
    expected = find_selection(
        MaskConfig(picture=str(world / "masks")), source, cameras, cameras, torch.zeros(3)
    ).is_selected
    assert torch.equal(load_selection(save / "selection.npy", len(source)), expected)
    again = experiment(world, tmp_path / "out", **{"mask.picture": "", "mask.saved": save / "selection.npy"})
    assert apps.start("preview", again, [f"out={tmp_path / 'again'}"]) == 0
    assert torch.equal(load_selection(tmp_path / "again" / "selection.npy", len(source)), expected)
