"""Inpainters change nothing outside the hole and something inside it; names that lead nowhere are said."""

import json
from types import SimpleNamespace

import diffusers
import huggingface_hub
import pytest
import torch

from threestudio_ssd.diffusion import random_backbone
from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.edits.inpaint import blended, load_inpainter, telea
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.seeds import Stream, generator

COMMIT = "0123456789abcdef0123456789abcdef01234567"
KEYS = {
    "model": "",
    "prompt": "a ball",
    "num_steps": 2,
    "guidance_scale": 2.0,
    "seed": 0,
    "device": torch.device("cpu"),
}


@pytest.fixture
def holes(generator):
    images = torch.rand(2, 3, 32, 32, generator=generator)
    masks = torch.zeros(2, 32, 32, dtype=torch.bool)
    masks[0, 8:20, 10:24] = True
    masks[1, 16:, :9] = True
    return images, masks


def check(filled, holes):
    images, masks = holes
    outside = ~masks[:, None].expand_as(images)
    assert torch.equal(filled[outside], images[outside])
    assert not torch.equal(filled[~outside], images[~outside])
    assert filled.min() >= 0
    assert filled.max() <= 1


def test_telea_continues_the_surroundings(holes):
    check(telea(*holes), holes)
    flat = torch.full((1, 3, 32, 32), 0.4)
    flat[:, :, 10:20, 10:20] = 1.0
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[:, 8:22, 8:22] = True
    torch.testing.assert_close(telea(flat, mask), torch.full_like(flat, 0.4), atol=2 / 255, rtol=0)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_diffusion_model_fills_and_repeats_itself(holes, prediction_type):
    backbone = random_backbone(prediction_type)
    prompts = backbone.encode_prompts(["a ball", ""])
    filled = blended(backbone, *holes, prompts, 3, 2.0, 0)
    check(filled, holes)
    assert backbone.counters.network_calls == 3
    assert torch.equal(filled, blended(backbone, *holes, prompts, 3, 2.0, 0))
    assert not torch.equal(filled, blended(backbone, *holes, prompts, 3, 2.0, 1))


def test_a_perfect_network_gives_the_picture_back(holes):
    """With the true noise as its prediction, denoising returns the latents it started from, hole or not."""
    backbone = random_backbone()
    images, masks = holes
    known = backbone.encode(images)
    noise = torch.randn(known.shape[1:], generator=generator(0, 0, Stream.INPAINTING)).expand_as(known)
    backbone.predict_noise = lambda latents, *rest: noise.repeat(2, 1, 1, 1)
    prompts = backbone.encode_prompts(["a ball", ""])
    filled = blended(backbone, images, masks, prompts, 4, 7.5, 0)
    decoded = backbone.decode(known)
    inside = masks[:, None].expand_as(images)
    torch.testing.assert_close(filled[inside], decoded[inside], atol=1e-3, rtol=0)


def test_a_model_by_folder(holes, tmp_path):
    save_components(random_components(image_size=32), tmp_path / "model")
    found = load_inpainter("model", **{**KEYS, "model": str(tmp_path / "model")})
    check(found.fill(*holes), holes)
    assert (found.model_id, found.revision, found.image_size) == (str(tmp_path / "model"), None, 32)


def test_a_pipeline_of_diffusers_by_folder(holes, inpainting_pipeline):
    found = load_inpainter(str(inpainting_pipeline), **KEYS)
    check(found.fill(*holes), holes)
    assert (found.model_id, found.revision, found.image_size) == (str(inpainting_pipeline), None, 32)


def test_no_network_is_reported_for_telea(holes):
    found = load_inpainter("telea", **KEYS)
    assert (found.model_id, found.revision, found.image_size) == (None, None, None)
    check(found.fill(*holes), holes)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub whose repositories hold one pipeline at one commit, and what was asked of it and of diffusers."""
    asked = SimpleNamespace(files=[], loaded=[], placed=[], index={"unet": ["diffusers", "UNet2DConditionModel"]})

    def download(repo_id, filename, *, revision, local_files_only):
        asked.files.append((repo_id, filename, revision, local_files_only))
        path = tmp_path / "snapshots" / COMMIT / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asked.index))
        return str(path)

    class Pipeline:
        vae_scale_factor = 8
        unet = SimpleNamespace(config=SimpleNamespace(sample_size=64))

        def to(self, device):
            asked.placed.append(device)
            return self

        def set_progress_bar_config(self, **options):
            pass

    def load(name, **options):
        asked.loaded.append((name, options))
        return Pipeline()

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(diffusers.AutoPipelineForInpainting, "from_pretrained", load)
    return asked


@pytest.mark.parametrize(
    ("withdrawn", "successor"),
    [
        ("stabilityai/stable-diffusion-2-inpainting", "sd2-community/stable-diffusion-2-inpainting"),
        ("runwayml/stable-diffusion-inpainting", "stable-diffusion-v1-5/stable-diffusion-inpainting"),
    ],
)
def test_a_withdrawn_pipeline_resolves_to_its_successor_at_one_commit(hub, withdrawn, successor):
    found = load_inpainter(withdrawn, **KEYS, revision="main", is_offline=True)
    assert (found.model_id, found.revision, found.image_size) == (successor, COMMIT, 512)
    assert hub.files[0] == (successor, "model_index.json", "main", True)
    options = {"revision": COMMIT, "local_files_only": True, "dtype": torch.float32}
    assert hub.loaded == [(successor, options)]


@pytest.mark.parametrize(
    ("index", "dtype", "expected"),
    [
        ({"unet": []}, None, torch.float16),
        ({"transformer": []}, None, torch.bfloat16),
        ({"unet": []}, "fp32", torch.float32),
    ],
)
def test_a_pipeline_runs_on_the_gpu_in_half_precision(hub, monkeypatch, index, dtype, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    hub.index = index
    load_inpainter("owner/name", **{**KEYS, "device": torch.device("cuda:0"), "dtype": dtype})
    assert hub.placed == [torch.device("cuda:0")]
    assert hub.loaded[0][1]["dtype"] == expected


@pytest.mark.parametrize("name", ["tela", "./nothing", "/no/such/folder", "a/b/c"])
def test_a_name_that_leads_nowhere(name):
    with pytest.raises(ConfigError) as error:
        load_inpainter(name, **KEYS)
    assert str(error.value) == (
        f"system.inpainter folder '{name}' does not exist; expected telea, model, or a folder or hub id of an "
        "inpainting pipeline of diffusers; check the name, or set system.inpainter=telea"
    )


def test_a_folder_without_a_pipeline(tmp_path):
    with pytest.raises(ConfigError, match=r"system.inpainter .* holds no model_index.json"):
        load_inpainter(str(tmp_path), **KEYS)
