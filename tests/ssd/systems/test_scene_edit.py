"""A whole edit through Lightning: what it costs, what it leaves alone, how it resumes, how it fails."""

import json
import shutil
import weakref
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.edit_world import SIZE, experiment, fit, run, toy_cameras, vertex_rows
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.gaussians.io import load_gaussians, save_gaussians
from threestudio_ssd.gaussians.model import FIELD_NAMES
from threestudio_ssd.masks import MaskConfig, find_selection, load_selection
from threestudio_ssd.report.edit_report import distillation_facts
from threestudio_ssd.systems.edit_base import splat_suffix
from threestudio_ssd.systems.scene_edit import SceneEditSystem

REPORT_KEYS = (
    "source_prompt target_prompt score model seed steps seconds peak_memory_bytes num_gaussians_before"
    " num_gaussians_after num_selected change_inside change_outside psnr_outside clip_similarity"
    " clip_directional_similarity device versions out_of_range out_of_range_before speckle_visible"
    " speckle_visible_before speckle_hidden speckle_hidden_before edit_kind skipped_steps"
).split()


@pytest.fixture(scope="module")
def edited(world, tmp_path_factory):
    """Exit code and folder of one uninterrupted run of four steps."""
    return run(world, tmp_path_factory.mktemp("edited"), "train", "test", "export")


@pytest.fixture(scope="module")
def report(edited):
    def refuse(word):
        raise AssertionError(f"the report holds {word}")

    return json.loads((edited[1] / "save" / "report.json").read_text(), parse_constant=refuse)


def test_the_run_folder_holds_everything(edited):
    code, folder = edited
    assert code == 0
    for name in (
        "save/edited.ply", "save/before_after.mp4", "save/grid.png", "save/report.json", "save/report.html",
        "save/progress/step-00002.png", "save/mask/view_000.png", "save/selection.npy", "ckpts/last.ckpt",
        "configs/parsed.yaml", "tb_logs", "csv_logs",
    ):  # fmt: skip
        assert (folder / name).exists(), name
    assert not [path for path in folder.rglob("*") if "tmp" in path.suffix]


def test_the_report_has_its_keys_and_finite_numbers(report, world):
    assert not [key for key in REPORT_KEYS if key not in report]
    assert report["steps"] == 4
    assert report["num_gaussians_before"] == report["num_gaussians_after"] == len(load_gaussians(world / "scene.ply"))
    assert 0 < report["num_selected"] < report["num_gaussians_before"]
    assert report["change_inside"] > report["change_outside"] >= 0
    assert report["psnr_outside"] > 35
    assert report["seconds"] > 0
    assert report["peak_memory_bytes"] > 1e8
    assert report["score"] == {"name": "ssd"}
    assert report["device"] == "cpu"
    assert -1 <= report["clip_directional_similarity"] <= 1


def test_the_report_says_which_weights_made_it(report, world, tmp_path, hub_cache):
    """Model and VAE with their commits, precision, LoRA: of a folder, and of hub repositories."""
    from diffusers import AutoencoderTiny

    keys = ("model", "revision", "dtype", "vae", "vae_revision", "vae_dtype", "lora")
    assert [report[key] for key in keys] == [str(world / "model"), None, "float32", None, None, "float32", []]
    blocks = {"encoder_block_out_channels": (8, 8, 8), "decoder_block_out_channels": (8, 8, 8)}
    counts = {"num_encoder_blocks": (1, 1, 1), "num_decoder_blocks": (1, 1, 1)}
    AutoencoderTiny(**blocks, **counts).save_pretrained(tmp_path / "vae")
    commits = hub_cache("owner/tiny", world / "model"), hub_cache("owner/vae", tmp_path / "vae")
    lora = tmp_path / "style.safetensors"
    layer = "unet.up_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    save_file({f"{layer}.lora_A.weight": torch.zeros(2, 32), f"{layer}.lora_B.weight": torch.zeros(32, 2)}, lora)
    options = {"offline": "true", "vae": "owner/vae", "dtype": "bf16", "vae_dtype": "bf16", "lora": f"[{lora}:0.5]"}
    more = {f"system.guidance.{key}": value for key, value in options.items()}
    system = SceneEditSystem(experiment(world, tmp_path, model="owner/tiny", **more).system)
    facts = distillation_facts(system.job.guidance)
    expected = ["owner/tiny", commits[0], "bfloat16", "owner/vae", commits[1], "bfloat16", [f"{lora}:0.5"]]
    assert [facts[key] for key in keys] == expected


def test_a_step_is_one_encode_and_one_network_call(report):
    """Six training views are encoded once, as many at a time as in a step; then one encode and one call a step."""
    assert report["encodes"] == 6 + 4
    assert report["network_calls"] == 4
    assert report["noise_predictions"] == 4 * 4


def test_unselected_rows_are_the_same_bytes(edited, report, world):
    before, after = vertex_rows(world / "scene.ply"), vertex_rows(edited[1] / "save" / "edited.ply")
    source = load_gaussians(world / "scene.ply")
    cameras = toy_cameras()
    is_selected = find_selection(
        MaskConfig(picture=str(world / "masks")), source, cameras, cameras, torch.zeros(3)
    ).is_selected
    assert torch.equal(load_selection(edited[1] / "save" / "selection.npy", len(source)), is_selected)
    assert int(is_selected.sum()) == report["num_selected"]
    assert len(before) == len(after) == len(source)
    is_changed = torch.tensor([a != b for a, b in zip(before, after, strict=True)])
    assert not (is_changed & ~is_selected).any()
    assert (is_changed & is_selected).sum() > 0.9 * is_selected.sum()


def test_resuming_gives_the_bytes_of_an_uninterrupted_run(edited, world, tmp_path):
    run(world, tmp_path, "train", **{"trainer.max_steps": 2})
    checkpoint = tmp_path / "smoke" / "run" / "ckpts" / "last.ckpt"
    halted = torch.load(checkpoint, weights_only=True)
    assert halted["global_step"] == 2
    code, folder = run(world, tmp_path, "train", "export", resume="auto")
    assert code == 0
    whole = (edited[1] / "save" / "edited.ply").read_bytes()
    assert (folder / "save" / "edited.ply").read_bytes() == whole
    resumed = torch.load(folder / "ckpts" / "last.ckpt", weights_only=True)
    assert resumed["global_step"] == 4
    assert resumed["train_seconds"] > halted["train_seconds"] > 0


HELD = {
    "system.colors": "bounded", "system.color_steps": "shared", "system.color_way": 6.3, "system.edit_kind": "recolor",
    "system.lambda_shading": 48, "system.learning_rates.sh0": 0.0125,
}  # fmt: skip
"""What the default config does for colours, where the smoke config does as published."""


def test_held_colors_resume_to_the_same_bytes_too(world, tmp_path):
    whole = run(world, tmp_path / "whole", "train", "export", **HELD)[1] / "save" / "edited.ply"
    run(world, tmp_path / "halves", "train", **HELD, **{"trainer.max_steps": 2})
    _, folder = run(world, tmp_path / "halves", "train", "export", resume="auto", **HELD)
    assert (folder / "save" / "edited.ply").read_bytes() == whole.read_bytes()


def test_colors_that_ran_away_are_said(world, tmp_path, caplog):
    """At a rate that throws them about; and not where they are held, at the same way."""
    _, folder = run(world, tmp_path / "free", "train", "test", **{"system.learning_rates.sh0": 2.0})
    report = json.loads((folder / "save" / "report.json").read_text())
    assert report["out_of_range"] > 0.5 > report["out_of_range_before"]
    assert report["speckle_visible"] > report["speckle_visible_before"] + 0.03
    assert "Colours ran away in places that are seen: neighbours differ by" in caplog.text
    caplog.clear()
    _, folder = run(world, tmp_path / "held", "train", "test", **HELD | {"system.color_way": 8.0})
    report = json.loads((folder / "save" / "report.json").read_text())
    assert report["out_of_range"] <= report["out_of_range_before"]
    assert "ran away" not in caplog.text


def test_exporting_a_checkpoint_alone_gives_the_same_file(edited, world, tmp_path):
    shutil.copytree(edited[1], tmp_path / "smoke" / "run")
    (tmp_path / "smoke" / "run" / "save" / "edited.ply").unlink()
    _, folder = run(world, tmp_path, "export")
    assert (folder / "save" / "edited.ply").read_bytes() == (edited[1] / "save" / "edited.ply").read_bytes()


def test_another_seed_gives_another_edit(edited, world, tmp_path):
    system = fit(world, tmp_path, seed=1)
    first = load_gaussians(edited[1] / "save" / "edited.ply")
    assert not torch.equal(system.job.editable.result().sh0, first.sh0)


def test_a_learning_rate_of_zero_keeps_the_attribute(world, tmp_path):
    kept = ("means", "raw_quats", "sh0")
    system = fit(world, tmp_path, steps=2, **{f"system.learning_rates.{name}": 0 for name in kept})
    source, result = system.job.editable.source, system.job.editable.result()
    for name in FIELD_NAMES:
        is_same = torch.equal(getattr(source, name), getattr(result, name))
        assert is_same == (name in kept or name == "shN"), name


def test_the_text_encoder_is_freed_and_no_model_is_in_the_checkpoint(world, tmp_path):
    system = SceneEditSystem(experiment(world, tmp_path).system)
    assert system.job.guidance.backbone.text_encoders is None
    assert not list(system.parameters())
    assert set(system.job.embeddings) == {"src", "tgt", "null"}


def test_an_orbit_without_mask_in_batches_of_two(world, tmp_path):
    """No cameras, no mask, two views a step: everything may move, and a step is still one call."""
    system = fit(
        world,
        tmp_path,
        steps=3,
        cameras="",
        **{"mask.picture": "", "data.batch_size": 2, "data.num_train_views": 9},
    )
    counters = system.job.guidance.backbone.counters
    assert system.job.editable.is_selected.all()
    assert (counters.encodes, counters.encoded_images) == (5 + 3, 5 * 2 + 3 * 2)
    assert (counters.network_calls, counters.rows) == (3, 3 * 2 * 4)
    assert (system.job.editable.result().sh0 != system.job.editable.source.sh0).any(dim=(1, 2)).float().mean() > 0.2


def test_picture_conditions_are_computed_once(world, tmp_path):
    from threestudio_ssd.diffusion.models import save_components
    from threestudio_ssd.diffusion.random import random_components

    save_components(random_components(in_channels=8, image_size=SIZE), tmp_path / "ip2p")
    system = fit(world, tmp_path, steps=3, model=tmp_path / "ip2p", **{"system.guidance.score.name": "ssd-ip2p"})
    counters = system.job.guidance.backbone.counters
    assert (counters.encodes, counters.network_calls, counters.rows) == (2 * 6 + 3, 3, 3 * 4)
    assert system.edit.objective.conditions[0].shape == system.edit.objective.latents_src[0].shape


def test_latent_masks_and_anchors(world, tmp_path):
    system = fit(world, tmp_path, steps=2, **{"system.mask_latents": "true", "system.lambda_anchor.means": 1e9})
    masks = system.edit.objective.latent_masks[0]
    assert masks.shape == (6, 1, SIZE // 4, SIZE // 4)
    assert 0 < masks.mean() < 1
    free = fit(world, tmp_path, steps=2, **{"system.mask_latents": "true"})
    assert system.job.editable.drift("means") < free.job.editable.drift("means")


def test_cut_views_and_a_render_size_of_its_own(world, tmp_path):
    """The encoder gets the model's size, whatever is rendered; cut views show more of the object."""
    more = {"data.render_size": 48, "data.crop": "selection", "system.mask_latents": "true", "steps": 2}
    system = fit(world, tmp_path, **more)
    assert system.job.views.size == (SIZE, SIZE)
    assert system.job.views.train.widths.tolist() == [48] * 6
    assert system.edit.objective.latents_src[0].shape[-2:] == (SIZE // 4, SIZE // 4)
    plain = fit(world, tmp_path, **{**more, "data.crop": "none"})
    assert system.edit.objective.latent_masks[0].mean() > 1.2 * plain.edit.objective.latent_masks[0].mean()
    assert (system.job.editable.result().sh0 != system.job.editable.source.sh0).any()


@pytest.fixture
def without_clip(world, tmp_path):
    """Overrides that name a CLIP whose weights are cut off in the middle."""
    shutil.copytree(world / "clip", tmp_path / "half-clip")
    path = tmp_path / "half-clip" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:4000])
    return {"system.clip_model": tmp_path / "half-clip"}


def test_a_report_that_cannot_be_made_is_known_before_the_first_step(world, tmp_path, without_clip, monkeypatch):
    monkeypatch.setattr(SceneEditSystem, "training_step", lambda *args: pytest.fail("the training began"))
    with pytest.raises(ConfigError, match=r"system.clip_model is .*half-clip: .*half-clip' cannot be read"):
        run(world, tmp_path, "train", "test", "export", **without_clip)
    assert not (tmp_path / "smoke").exists()


def test_a_checkpoint_is_exported_without_the_report_s_model(edited, world, tmp_path, without_clip):
    shutil.copytree(edited[1], tmp_path / "smoke" / "run")
    code, folder = run(world, tmp_path, "export", **without_clip)
    assert code == 0
    assert (folder / "save" / "edited.ply").read_bytes() == (edited[1] / "save" / "edited.ply").read_bytes()


def test_the_clip_is_not_there_while_training_nor_after_the_report(world, tmp_path, monkeypatch):
    """Before the training its shapes are enough; the report loads it and lets it go."""
    from threestudio_ssd.metrics import clip_model as module

    loaded, alive_while_training = [], []
    original, step = module.ClipModel.__init__, SceneEditSystem.training_step

    def remember(self, network, *args):
        original(self, network, *args)
        loaded.append((weakref.ref(network), str(self.device)))

    def training_step(self, *args):
        alive_while_training.extend(network() for network, _ in loaded)
        return step(self, *args)

    monkeypatch.setattr(module.ClipModel, "__init__", remember)
    monkeypatch.setattr(SceneEditSystem, "training_step", training_step)
    run(world, tmp_path, "train", "test", steps=1)
    assert [device for _, device in loaded] == ["meta", "cpu"]
    assert alive_while_training == [None]
    assert loaded[1][0]() is None


def test_no_visible_change_is_exit_code_three(world, tmp_path):
    code, folder = run(
        world, tmp_path, "train", "test", "export", **{"system.lambda_guidance": 0, "data.video_frames": 0}
    )
    assert code == 3
    assert vertex_rows(folder / "save" / "edited.ply") == vertex_rows(world / "scene.ply")
    assert not (folder / "save" / "before_after.mp4").exists()


def test_an_edit_without_a_finite_step_is_exit_code_three_and_writes_the_last_good_state(world, tmp_path):
    """Which here is the scene itself, since no step was good."""
    code, folder = run(world, tmp_path, "train", "export", **{"system.lambda_guidance": 1e39})
    assert code == 3
    assert vertex_rows(folder / "save" / "edited.ply") == vertex_rows(world / "scene.ply")


def test_parameters_that_are_no_longer_finite_go_back_to_when_they_were(world, tmp_path):
    """As a rate does that is finite and far too high."""
    code, folder = run(world, tmp_path, "train", "export", **{"system.learning_rates.means": 3e38})
    assert code == 3
    assert vertex_rows(folder / "save" / "edited.ply") == vertex_rows(world / "scene.ply")


@pytest.fixture(scope="module")
def foreign(world, tmp_path_factory):
    """A checkpoint taken out of its folder, so that only what is in it says what it was made of."""
    folder = tmp_path_factory.mktemp("foreign")
    _, made = run(world, folder, "train", **{"trainer.max_steps": 2})
    checkpoint = folder / "taken.ckpt"
    shutil.copy(made / "ckpts" / "last.ckpt", checkpoint)
    return checkpoint


@pytest.mark.parametrize("stage", ["train", "export"])
@pytest.mark.parametrize("name", ["scene", "cameras", "selection", "prompts", "model"])
def test_a_checkpoint_of_anything_else_is_refused_by_name(world, tmp_path, foreign, stage, name):
    """Files of other contents under the same names; the scene has as many Gaussians as before."""
    other = tmp_path / "world"
    shutil.copytree(world, other)
    with replaced(world, other, name) as more, pytest.raises(ValueError) as caught:
        run(world, tmp_path / "out", stage, resume=foreign, **more)
    assert f"was made with another {name}" in caught.value.what or name == "prompts"
    if name == "prompts":
        assert "another system.prompt_processor.target_prompt" in caught.value.what
    assert not (tmp_path / "out" / "smoke" / "run" / "save" / "edited.ply").exists()


@contextmanager
def replaced(world, kept, name):
    """What the world's files were before is put back afterwards."""
    if name == "prompts":
        yield {"target_prompt": "a photo of a green ball on grass"}
        return
    if name == "scene":
        gaussians = load_gaussians(world / "scene.ply")
        save_gaussians(gaussians.replace(sh0=gaussians.sh0 + 0.01), world / "scene.ply")
    elif name == "cameras":
        text = (world / "cameras.json").read_text()
        (world / "cameras.json").write_text(text.replace('"fx": ', '"fx": 1'))
    elif name == "selection":
        for file in list((world / "masks").iterdir())[1:]:
            file.unlink()
        mask = next((world / "masks").iterdir())
        Image.fromarray(np.roll(np.asarray(Image.open(mask)), 8, axis=1)).save(mask)
    else:
        file = next((world / "model" / "unet").glob("*.safetensors"))
        content = bytearray(file.read_bytes())
        content[-200:] = bytes(200)
        file.write_bytes(content)
    try:
        yield {}
    finally:
        shutil.rmtree(world)
        shutil.copytree(kept, world)


@pytest.mark.parametrize(
    ("more", "what", "fix"),
    [
        ({"system.num_steps": 0}, "steps is 0", "set steps=1500"),
        ({"system.lambda_detail": -1}, "system.lambda_detail is -1", "set system.lambda_detail=0.0"),
        ({"system.lambda_anchor.sh0": -1}, "system.lambda_anchor.sh0 is -1.0", "set system.lambda_anchor.sh0=0.0"),
        ({"system.learning_rates.sh0": "[0.1,-0.1,4]"}, "system.learning_rates.sh0 is [0.1, -0.1, 4]",
         "set system.learning_rates.sh0=0.0125"),
        ({"system.color_way": 0}, "system.color_way is 0.0", "set system.color_way=null"),
        ({"system.color_way": ".inf"}, "system.color_way is inf", "set system.color_way=null"),
        ({"system.lambda_shading": -1}, "system.lambda_shading is -1", "set system.lambda_shading=0.0"),
        ({"system.color_way": 6}, "both system.color_way (6.0) and system.learning_rates.sh0 (0.1) are set",
         "set system.color_way=null to give the rate itself"),
        ({f"system.learning_rates.{name}": 0 if name == "means" else "[0,0,4]" for name in FIELD_NAMES},
         "all of system.learning_rates are 0", "set system.learning_rates.sh0=0.0125"),
        ({f"system.learning_rates.{name}": 0 for name in FIELD_NAMES}, "all of system.learning_rates are 0",
         "set system.learning_rates.sh0=0.0125"),
    ],
)  # fmt: skip
def test_edits_that_cannot_start(world, tmp_path, more, what, fix):
    with pytest.raises(ConfigError) as error:
        SceneEditSystem(experiment(world, tmp_path, **more).system)
    assert (error.value.what, error.value.fix) == (what, fix)


@pytest.mark.parametrize(
    ("path", "suffix"),
    [("a.ply", ".ply"), ("A.PLY", ".ply"), ("a.compressed.ply", ".compressed.ply"), ("a.splat", ".splat"),
     ("a.b.spz", ".spz"), ("a.sog", ".sog"), ("a.ksplat", ".ply"), ("a.ckpt", ".ply")],
)  # fmt: skip
def test_the_result_has_the_scene_s_format(path, suffix):
    assert splat_suffix(path) == suffix
