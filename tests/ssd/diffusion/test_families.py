"""Families: one file adds one, every one keeps its facts together, and no other place knows their names."""

import ast
import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.edit_world import REPOSITORY
from threestudio_ssd.diffusion import Backbone, load_backbone, random_backbone
from threestudio_ssd.diffusion.costs.architectures import SD_VAE, Architecture
from threestudio_ssd.diffusion.costs.flops import frozen, run_predictions
from threestudio_ssd.diffusion.families import FAMILIES, SD, SD3, SDXL, family_of_pipeline, register_family
from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import random_components

PLUGIN = REPOSITORY / "custom" / "threestudio-ssd"


@pytest.fixture
def made_up():
    """The family of a file that the package does not know, as a user's plugin imports it."""
    spec = importlib.util.spec_from_file_location("made_up_family", Path(__file__).with_name("made_up_family.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del FAMILIES["made-up"]


def test_a_family_from_outside_is_saved_loaded_and_predicts(made_up, tmp_path):
    components = random_components("v", kind="made-up")
    save_components(components, tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == "MadeUpPipeline"
    assert index["mixer"][1] == "PlainMixer"
    backbone = load_backbone(tmp_path)
    assert backbone.family is made_up.MADE_UP
    assert (backbone.image_size, backbone.size_multiple, backbone.prediction_type) == (32, 8, "v_prediction")
    prompts = backbone.encode_prompts(["", "a red ball"])
    assert prompts.hidden.shape == (2, 77, 64)
    latents = backbone.encode(torch.rand(2, 3, 16, 24))
    eps = backbone.predict_noise(latents, 500, prompts)
    times = torch.full((2,), 500)
    raw = components.network(latents, tokens=prompts.hidden, time=times, pixels=24)
    torch.testing.assert_close(eps, backbone.noise_levels.to_epsilon(raw, latents, times))
    assert torch.equal(eps, Backbone(components).predict_noise(latents, 500, prompts))
    assert not torch.allclose(eps[0], eps[1])


def test_a_family_from_outside_reads_an_image_condition_and_its_own_half_precision(made_up, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    from threestudio_ssd.diffusion.options import BackboneOptions

    assert BackboneOptions(device="cuda").network_dtype(made_up.MADE_UP) == torch.bfloat16
    backbone = random_backbone(kind="made-up", in_channels=8)
    assert backbone.has_image_condition
    prompts, latents = backbone.encode_prompts(["a"]), torch.randn(1, 4, 8, 8)
    with_image = backbone.predict_noise(latents, 500, prompts, torch.ones_like(latents))
    assert not torch.allclose(with_image, backbone.predict_noise(latents, 500, prompts))


def test_a_family_from_outside_has_loras_and_costs(made_up, tmp_path):
    backbone = random_backbone(kind="made-up")
    width = backbone.network.config.token_width + 2
    down, up = torch.randn(1, width), torch.randn(4, 1)
    save_file({"mixer.condition.lora_A.weight": down, "mixer.condition.lora_B.weight": up}, tmp_path / "l.safetensors")
    components = random_components(kind="made-up")
    save_components(components, tmp_path / "model")
    changed = load_backbone(tmp_path / "model", lora=str(tmp_path / "l.safetensors"))
    torch.testing.assert_close(changed.network.condition.weight, backbone.network.condition.weight + up @ down)
    architecture = Architecture(made_up.MADE_UP, {"channels": 4}, SD_VAE, (), 512)
    with torch.device("meta"):
        network = frozen(architecture.make_network())
    run_predictions(architecture, network, 3, 64, torch.float32)


def test_names_and_pipelines_belong_to_one_family(made_up):
    assert family_of_pipeline("MadeUpPipeline") is made_up.MADE_UP
    assert family_of_pipeline("FluxPipeline") is None
    assert family_of_pipeline(None) is None

    class Thief(made_up.MadeUp):
        name = "thief"

    with pytest.raises(ValueError, match="MadeUpPipeline belongs to the family made-up already"):
        register_family(Thief())
    assert "thief" not in FAMILIES


@pytest.mark.parametrize("family", [SD, SDXL, SD3], ids=lambda family: family.name)
def test_the_tiny_twin_is_called_as_the_backbone_calls_it(family):
    """On the meta device, from the widths alone: what counts operations and memory."""
    network = family.make_network(family.tiny_config(4, 8)).to("meta")
    architecture = Architecture(family, {}, SD_VAE, (), 64, num_tokens=7)
    run_predictions(architecture, frozen(network), 2, 64, torch.float32)


def test_lora_files_name_the_parts_as_diffusers_and_kohya_do():
    assert SD.lora_prefixes == {
        "unet.": "unet", "text_encoder.": "text_encoder", "lora_te_": "text_encoder", "lora_unet_": "unet",
    }  # fmt: skip
    assert SD3.lora_prefixes["lora_transformer_"] == "transformer"
    assert SDXL.lora_prefixes["lora_te2_"] == "text_encoder_2"


def test_only_the_families_know_their_names():
    """Elsewhere a family is an object. "sdxl" and "sd3" are also names of published architectures, in one table."""
    names, tables = {family.name for family in (SD, SDXL, SD3)}, PLUGIN / "diffusion" / "costs"
    places = []
    for path in sorted(PLUGIN.rglob("*.py")):
        if path.is_relative_to(PLUGIN / "diffusion" / "families"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names:
                if path.parent != tables or node.value == SD.name:
                    places.append(f"{path.relative_to(PLUGIN)}:{node.lineno}: {node.value}")
    assert not places
