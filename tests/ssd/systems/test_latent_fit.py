"""ED-NeRF through Lightning: a field of latents fitted to a splat and to photographs, edited, resumed, converted."""

import json

import numpy as np
import pytest
import torch

from tests.edit_world import REPOSITORY, toy_cameras, toy_parts, write_colmap_capture
from tests.ssd.systems.test_field_fit import SMALL, run
from threestudio.run import main
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.data.scene_views import ViewPlan
from threestudio_ssd.diffusion import load_backbone
from threestudio_ssd.edits import field_splat
from threestudio_ssd.edits.latent_fit import LatentFit
from threestudio_ssd.edits.scene_edit import SceneEdit
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.fields import LatentField, load_field
from threestudio_ssd.gaussians.io import load_gaussians
from threestudio_ssd.latents import load_visible, name_of, seen_through

MODEL, SIZE = "data/tiny-ldm", 32
FIT = {
    "steps": 16, "system.resolution": 15, "system.doublings": 1, "system.refine_at": "[0.4]", "system.rays": 128,
    "system.learning_rates.raw_densities": 1, "system.lambda_rgb": 0, "system.refiner_width": 8,
    "system.splat_steps": 4, "system.preview_every": 0, "data.check_capture": "false", "data.size": SIZE,
    "data.test_size": SIZE, "data.num_train_views": 6, "data.num_test_views": 2,
}  # fmt: skip
TENSORS = ("fitted.field/field.safetensors", "fitted.field/refiner.safetensors", "fitted.field/field.json")


def fit(world, out, *stages, **more):
    words = {"scene": world / "scene.ply", "cameras": world / "cameras.json", "model": MODEL, **FIT, **more}
    return run("fit-ed-nerf-splat", out, *stages, **words)


@pytest.fixture(scope="module")
def fitted(world, tmp_path_factory):
    return fit(world, tmp_path_factory.mktemp("fitted"), "train", "test", "export")


def test_a_fit_leaves_a_field_its_refiner_and_a_splat(fitted, world):
    report = json.loads((fitted / "save" / "report.json").read_text())
    field = load_field(fitted / "save" / "fitted.field")
    assert isinstance(field, LatentField)
    assert (len(field), field.space.size, field.space.downscale) == (report["num_nodes"], SIZE, 4)
    assert field.space.autoencoder == name_of(load_backbone(MODEL))
    assert report["psnr"] < report["psnr_autoencoder"] + 1
    assert len(load_gaussians(fitted / "save" / "fitted.ply")) > 10


def test_a_resumed_fit_gives_the_same_bytes(fitted, world, tmp_path):
    fit(world, tmp_path, "train", **{"trainer.max_steps": 9})
    folder = fit(world, tmp_path, "train", "export", resume="auto")
    assert all((folder / "save" / name).read_bytes() == (fitted / "save" / name).read_bytes() for name in TENSORS)


def job_of(world, **more):
    words = {"scene": world / "scene.ply", "cameras": world / "cameras.json", "model": MODEL, **FIT, **more}
    path = REPOSITORY / "configs" / "fit-ed-nerf-splat.yaml"
    cfg = complete(load_config(path, cli_args=[f"{key}={value}" for key, value in words.items()]))
    job = LatentFit(cfg.system)
    job.open_views(ViewPlan(cfg.data))
    return job


def latent_error(job):
    """Mean squared error of all refined views after a fit."""
    job.edit.prepare()
    job.edit.make_steps()
    views = range(len(job.edit.pictures))
    return float(torch.stack([job.edit._view_errors(row)[0] for row in views]).mean().detach())


def test_refined_latents_are_nearer_to_the_autoencoder_s(world):
    more = {"steps": 24}
    plain = job_of(world, **{"system.learning_rates.refiner": 0, **more})
    assert torch.equal(plain.edit.space.refiner.conv_out.weight, torch.zeros_like(plain.edit.refiner.conv_out.weight))
    refined = job_of(world, **{"system.learning_rates.refiner": 0.01, **more})
    assert latent_error(refined) < 0.95 * latent_error(plain)


def test_the_layer_of_the_paper_is_as_wide_as_the_decoder(world):
    job = job_of(world, **{"system.refiner_width": "null"})
    vae = job.backbone.vae
    assert job.edit.refiner.width == vae.decoder.conv_in.out_channels
    assert torch.equal(job.edit.refiner.conv_in.weight, vae.decoder.conv_in.weight)


def test_photographs_are_fitted_as_well(world, tmp_path):
    write_colmap_capture(tmp_path / "capture", toy_parts(keep_every=2)[0], toy_cameras(6, 40))
    few = {key: value for key, value in FIT.items() if not key.startswith("data.")}
    words = {"cameras": tmp_path / "capture", "data.size": 30, "data.hold_out_every": 0, "model": MODEL}
    folder = run("fit-ed-nerf", tmp_path, "train", "test", "export", **{**few, **words, "steps": 8})
    assert load_field(folder / "save" / "fitted.field").space.size == 32  # what fits the latent cells best


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"system.sh_degree": 1}, "system.sh_degree is 1; expected 0: latents are the same from all sides"),
        ({"system.refiner_width": 12}, "system.refiner_width is 12; expected none, or a multiple of 8"),
        ({"system.refined_views": 0}, "system.refined_views is 0"),
        ({"system.lambda_rgb": -1}, "system.lambda_rgb is -1"),
        ({"system.learning_rates.refiner": -1}, "system.learning_rates.refiner is -1"),
    ],
)
def test_values_that_cannot_be_are_refused(world, words, said):
    with pytest.raises(ConfigError, match=said):
        job_of(world, **words)


def edit_words(fitted, world, **more):
    return {
        "scene": fitted / "save" / "fitted.field", "cameras": world / "cameras.json", "mask.picture": world / "masks",
        "source_prompt": "a photo of a red ball on grass", "target_prompt": "a photo of a blue ball on grass",
        "model": MODEL, "system.clip_model": world / "clip", "steps": 4, "data.check_capture": "false",
        **SMALL, **more,
    }  # fmt: skip


def edit(fitted, world, out, *stages, config="ed-nerf", expected=0, **more):
    return run(config, out, *stages, expected=expected, **edit_words(fitted, world, **more))


STRONG = {"system.learning_rates.sh0": 0.3}


def test_an_edit_changes_the_selection_alone_and_resumes_to_the_same_bytes(fitted, world, tmp_path):
    folder = edit(fitted, world, tmp_path / "whole", "train", "test", "export", **STRONG)
    before, after = load_field(fitted / "save" / "fitted.field"), load_field(folder / "save" / "edited.field")
    is_selected = torch.from_numpy(np.load(folder / "save" / "selection.npy"))
    assert 0 < is_selected.sum() < len(before)
    for name, values in before.parameters().items():
        assert torch.equal(values[~is_selected], getattr(after, name)[~is_selected]), name
    assert not torch.equal(before.sh0, after.sh0)
    refiners = [each / "refiner.safetensors" for each in (fitted / "save/fitted.field", folder / "save/edited.field")]
    assert refiners[0].read_bytes() == refiners[1].read_bytes()
    assert json.loads((folder / "save" / "report.json").read_text())["num_selected"] == int(is_selected.sum())
    assert len(load_gaussians(folder / "save" / "edited.ply")) > 10
    edit(fitted, world, tmp_path / "parts", "train", **STRONG, **{"trainer.max_steps": 2})
    again = edit(fitted, world, tmp_path / "parts", "train", "export", resume="auto", **STRONG)
    assert (again / "save/edited.field/field.safetensors").read_bytes() == (
        folder / "save/edited.field/field.safetensors"
    ).read_bytes()


def edit_job(fitted, world, **more):
    words = [f"{key}={value}" for key, value in edit_words(fitted, world, **more).items()]
    cfg = complete(load_config(REPOSITORY / "configs" / "ed-nerf.yaml", cli_args=words))
    job = SceneEdit(cfg.system)
    job.open(ViewPlan(cfg.data))
    return job


def test_no_step_calls_the_encoder_and_gradients_reach_the_selected_nodes(fitted, world):
    job = edit_job(fitted, world)
    edit = job.edit
    edit.prepare()
    loss, _ = edit.loss(0)
    loss.backward()
    gradient = job.editable.selected["sh0"].grad
    assert gradient.shape[1:] == (1, 8)
    assert (gradient.abs().sum(dim=(1, 2)) > 0).float().mean() > 0.3
    edit.make_steps()
    assert (job.counters.encodes, job.counters.decodes) == (0, 0)
    assert job.counters.network_calls == 5


def test_latents_outside_the_mask_are_held_by_the_loss(fitted, world):
    """What all nodes' latents do to cells where nothing of the selection shows."""
    moved, before = {}, load_field(fitted / "save" / "fitted.field")
    for weight in (3000, 0):
        words = {"system.keep.moves": "true", "system.keep.lambda_latent": weight, "system.mask_latents": "false"}
        job = edit_job(fitted, world, **words, **STRONG)
        job.edit.prepare()
        job.edit.make_steps()
        cameras = job.edit.scenes[0].cameras
        if weight:
            outside = 1 - job.edit.objective.latent_masks[0]
        change = (job.editable.result().render_latents(cameras)[0] - before.render_latents(cameras)[0]) * outside
        moved[weight] = float(change.square().sum().detach())
    assert 0 < moved[3000] < 0.8 * moved[0]


def test_the_latents_of_another_autoencoder_are_refused(fitted, world, tmp_path, capsys):
    words = edit_words(fitted, world, model=world / "model", **{"exp_root_dir": tmp_path, "trainer.accelerator": "cpu"})
    config = str(REPOSITORY / "configs" / "ed-nerf.yaml")
    assert main(["--config", config, *(f"{key}={value}" for key, value in words.items())]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert f"holds latents of the autoencoder of {MODEL}, and model {world / 'model'} has another" in errors[0]
    assert f"set model={MODEL}, or fit a field anew" in errors[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"system.colors": "bounded"}, "system.colors is bounded, and scene .* radiance field of latents"),
        ({"system.lambda_detail": 1}, "system.lambda_detail is 1"),
        ({"system.keep.lambda_mse": 1}, "system.keep.lambda_mse is 1"),
        ({"data.crop": "selection"}, "data.crop is selection"),
        ({"system.keep.lambda_latent": -1}, "system.keep.lambda_latent is -1"),
    ],
)
def test_what_is_said_of_colours_is_refused(fitted, world, words, said):
    with pytest.raises(ConfigError, match=said):
        edit_job(fitted, world, **words)


def test_edited_views_cannot_be_fitted(fitted, world, tmp_path):
    words = edit_words(fitted, world, **SMALL)
    with pytest.raises(ConfigError, match="is a radiance field of latents, which edited views cannot be fitted to"):
        run("idu-nerf", tmp_path, "train", **words)


def test_other_commands_find_the_autoencoder_that_the_field_names(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(field_splat, "STEPS", 4)
    field = fitted / "save" / "fitted.field"
    assert main(["--run", "convert", str(field), str(tmp_path / "fitted.ply")]) == 0
    assert len(load_gaussians(tmp_path / "fitted.ply")) > 10
    words = ["--run", "evaluate", str(field), str(tmp_path / "fitted.ply"), f"out={tmp_path}", "num_views=2", "size=32"]
    assert main(words) == 0
    assert json.loads((tmp_path / "evaluate.json").read_text())["size"] == [32, 32]


def test_the_same_field_is_seen_through_the_same_model_only(fitted, world):
    path = fitted / "save" / "fitted.field"
    field = load_field(path)
    shown = load_visible(path)
    latents = torch.zeros(1, 8, 2, 2)
    backbone = load_backbone(MODEL)
    assert torch.equal(shown.space.pictures(latents), backbone.decode(latents))
    with torch.no_grad():
        backbone.vae.encoder.conv_in.weight[0, 0, 0, 0] += 1
    with pytest.raises(ConfigError, match="and model .* has another"):
        seen_through(field, backbone, path)
