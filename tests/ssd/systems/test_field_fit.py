"""Radiance fields through Lightning: fitted to photographs, edited by words and by views, resumed."""

import json

import numpy as np
import pytest
import torch

from tests.edit_world import QUIET, REPOSITORY, toy_cameras, toy_parts, write_colmap_capture
from threestudio.trainer import run_experiment
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.data.modules import PhotosData
from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.edits.field_fit import FieldFit, refined
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.fields import load_field
from threestudio_ssd.gaussians.io import load_gaussians
from threestudio_ssd.rendering import render_bchw

SIZE, NUM_VIEWS = 24, 12
FIT = {
    "steps": 60, "system.resolution": 29, "system.doublings": 1, "system.refine_at": "[0.4]", "system.rays": 256,
    "system.splat_steps": 4, "system.preview_every": 0, "system.sh_degree": 1,
}  # fmt: skip


def run(config, out, *stages, expected=0, **more):
    words = {"exp_root_dir": out, "use_timestamp": "false", "trainer.accelerator": "cpu", "tag": "run", **QUIET, **more}
    path = REPOSITORY / "configs" / f"{config}.yaml"
    cfg = complete(load_config(path, cli_args=[f"{key}={value}" for key, value in words.items()]))
    assert run_experiment(cfg, list(stages)) == expected
    return out / config / "run"


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("capture")
    write_colmap_capture(folder, toy_parts(keep_every=2)[0], toy_cameras(NUM_VIEWS, SIZE))
    return folder


def fit(capture, out, *stages, **more):
    words = {"cameras": capture, "data.size": SIZE, "data.hold_out_every": 0, **FIT, **more}
    return run("fit-nerf", out, *stages, **words)


@pytest.fixture(scope="module")
def fitted(capture, tmp_path_factory):
    return fit(capture, tmp_path_factory.mktemp("fitted"), "train", "test", "export")


def psnr_of_one_color(capture):
    """That of images of the photographs' mean colour."""
    judges = PhotosData({"cameras": str(capture), "size": SIZE, "hold_out_every": 0}).capture.split((0, 0, 0))[1]
    images = torch.stack(judges.images)
    return float(-10 * (images - images.mean(dim=(0, 1, 2))).square().mean(dim=(1, 2, 3)).log10().mean())


def test_a_fit_meets_its_photographs(fitted, capture):
    report = json.loads((fitted / "save" / "report.json").read_text())
    assert report["psnr"] > psnr_of_one_color(capture) + 6
    field = load_field(fitted / "save" / "fitted.field")
    assert len(field) == report["num_nodes"] < 29**3
    assert field.sh_degree == 1
    assert load_gaussians(fitted / "save" / "fitted.ply").sh_degree == 1
    assert "A radiance field of 12 images" in (fitted / "save" / "report.html").read_text(encoding="utf-8")


def test_a_resumed_fit_gives_the_same_bytes(fitted, capture, tmp_path):
    fit(capture, tmp_path, "train", **{"trainer.max_steps": 30})
    folder = fit(capture, tmp_path, "train", "export", resume="auto")
    for name in ("fitted.field/field.safetensors", "fitted.field/field.json"):
        assert (folder / "save" / name).read_bytes() == (fitted / "save" / name).read_bytes()


def test_a_finer_lattice_shows_the_same(fitted):
    field = load_field(fitted / "save" / "fitted.field")
    views = toy_cameras(2, SIZE)
    before, after = (render_bchw(each, views, torch.zeros(3)) for each in (field, refined(field)))
    assert (before - after).abs().mean() < 0.02


SMALL = {
    "data.num_train_views": 4, "data.num_test_views": 2, "data.test_size": 24, "data.video_frames": 2,
    "system.preview_every": 0, "system.splat_steps": 2,
}  # fmt: skip


def edit(config, fitted, world, out, *stages, **more):
    words = {
        "scene": fitted / "save" / "fitted.field", "cameras": world / "cameras.json", "mask.picture": world / "masks",
        "source_prompt": "a photo of a red ball on grass", "target_prompt": "a photo of a blue ball on grass",
        "model": world / "model", "system.clip_model": world / "clip", "steps": 4, "data.check_capture": "false",
        **SMALL, **more,
    }  # fmt: skip
    return run(config, out, *stages, **words)


SSD = {"system.color_way": 30, "system.learning_rates.raw_densities": 0.05}


def test_an_edit_by_words_changes_the_selection_alone_and_resumes_to_the_same_bytes(fitted, world, tmp_path):
    folder = edit("ssd-nerf", fitted, world, tmp_path / "whole", "train", "test", "export", **SSD)
    before, after = load_field(fitted / "save" / "fitted.field"), load_field(folder / "save" / "edited.field")
    is_selected = torch.from_numpy(np.load(folder / "save" / "selection.npy"))
    assert 0 < is_selected.sum() < len(before)
    for name, values in before.parameters().items():
        assert torch.equal(values[~is_selected], getattr(after, name)[~is_selected]), name
    assert not torch.equal(before.sh0, after.sh0)
    assert not torch.equal(before.raw_densities, after.raw_densities)
    report = json.loads((folder / "save" / "report.json").read_text())
    assert report["num_selected"] == int(is_selected.sum())
    assert len(load_gaussians(folder / "save" / "edited.ply")) > 100
    edit("ssd-nerf", fitted, world, tmp_path / "parts", "train", **SSD, **{"trainer.max_steps": 2})
    again = edit("ssd-nerf", fitted, world, tmp_path / "parts", "train", "export", resume="auto", **SSD)
    name = "save/edited.field/field.safetensors"
    assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_a_field_follows_edited_views(fitted, world, tmp_path):
    save_components(random_components(image_size=32, in_channels=8), tmp_path / "ip2p")
    more = {
        "system.edit_rate": 2, "system.editing.batch_size": 2, "data.batch_size": 1, "model": tmp_path / "ip2p",
        "system.editing.editor.num_steps": 2, "system.editing.editor.min_steps": 2,
    }  # fmt: skip
    folder = edit("idu-nerf", fitted, world, tmp_path, "train", "test", "export", **more)
    before, after = load_field(fitted / "save" / "fitted.field"), load_field(folder / "save" / "edited.field")
    assert not torch.equal(before.sh0, after.sh0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"system.resolution": 3}, "system.resolution is 3; expected 4 to 512"),
        ({"system.refine_at": "[0.5]"}, "expected 2 rising shares of the run"),
        ({"system.half": -1}, "system.half is -1"),
        ({"system.rays": 0}, "system.rays is 0"),
    ],
)
def test_values_that_cannot_be_are_refused(changes, said):
    cfg = load_config(REPOSITORY / "configs" / "fit-nerf.yaml", cli_args=[f"{k}={v}" for k, v in changes.items()])
    with pytest.raises(ConfigError, match=said.replace("[", r"\[")):
        FieldFit(complete(cfg).system)


def test_a_change_of_shape_that_replaces_is_refused(fitted, world, tmp_path):
    with pytest.raises(ConfigError, match="system.replaces is true, and scene"):
        edit("idu-nerf", fitted, world, tmp_path, "train", **{"system.replaces": "true"})
