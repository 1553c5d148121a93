"""Models from folders and the hub cache: every kind loads to the same numbers, every damage has its message."""

import dataclasses
import inspect
import json
import shutil
import sys

import pytest
import torch

from threestudio_ssd.diffusion import load_backbone
from threestudio_ssd.diffusion.backbone import Backbone
from threestudio_ssd.diffusion.models import FOLDER_LAYOUT, save_components
from threestudio_ssd.diffusion.options import BackboneOptions
from threestudio_ssd.diffusion.random import letter_tokenizer, random_components
from threestudio_ssd.errors import ConfigError, SceneFormatError
from threestudio_ssd.guidance import EditGuidance

AGAIN = "copy or download the model again, or point model= at a complete one"


def same_numbers(first: Backbone, second: Backbone) -> bool:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 32, 40, generator=generator)
    results = []
    for backbone in (first, second):
        latents = backbone.encode(images)
        prompts = backbone.encode_prompts(["", "a red ball"])
        results.append(torch.cat([latents, backbone.predict_noise(latents, 500, prompts)]))
    return torch.equal(*results)


@pytest.fixture
def damaged(model_folder, tmp_path):
    """A copy of the model folder, to damage."""
    return shutil.copytree(model_folder, tmp_path / "damaged")


@pytest.mark.parametrize(
    ("kind", "in_channels", "prediction_type"),
    [("sd", 4, "epsilon"), ("sd", 4, "v_prediction"), ("sd", 8, "epsilon"), ("sdxl", 4, "epsilon"), ("sd3", 4, "flow")],
)
def test_every_kind_comes_back_from_its_folder(tmp_path, kind, in_channels, prediction_type):
    make = {"kind": kind, "in_channels": in_channels}
    save_components(random_components(prediction_type, **make), tmp_path)
    loaded = load_backbone(tmp_path)
    assert (loaded.family.name, loaded.prediction_type, loaded.model_id) == (kind, prediction_type, str(tmp_path))
    assert loaded.has_image_condition == (in_channels == 8)
    assert loaded.revision is None
    assert same_numbers(loaded, Backbone(random_components(prediction_type, **make)))


@pytest.mark.parametrize(
    ("distilled", "pipeline"), [("turbo", "StableDiffusionPipeline"), ("lcm", "LatentConsistencyModelPipeline")]
)
def test_few_step_models_come_back_with_the_noise_of_their_schedulers(tmp_path, distilled, pipeline):
    import diffusers

    components = random_components(distilled=distilled)
    save_components(components, tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["_class_name"] == pipeline
    loaded = load_backbone(tmp_path)
    assert same_numbers(loaded, Backbone(random_components(distilled=distilled)))
    scheduler = getattr(diffusers, {"turbo": "EulerDiscreteScheduler", "lcm": "LCMScheduler"}[distilled])
    theirs = scheduler.from_config(components.scheduler_config)
    torch.testing.assert_close(loaded.alphas_cumprod, theirs.alphas_cumprod, rtol=1e-4, atol=1e-6)
    assert (loaded.prediction_type, loaded.num_timesteps) == ("epsilon", 1000)


def keep_variant_only(folder, variant):
    """Rename the weights of a model folder as repositories name those of a variant."""
    for path in folder.rglob("*.safetensors"):
        path.rename(path.with_suffix(f".{variant}.safetensors"))


def test_the_weights_of_a_variant_are_read_by_the_guidance_s_key(damaged, model_folder):
    keep_variant_only(damaged, "fp16")
    for keys in ({"variant": "fp16"}, {}):
        guidance = EditGuidance({"model": str(damaged), **keys})
        assert same_numbers(guidance.backbone, load_backbone(model_folder))


def test_an_sd3_without_its_t5_by_the_guidance_s_key(tmp_path):
    """Its tokens count as zeros then, and its weights are not read."""
    from transformers import T5Config, T5EncoderModel

    components = random_components(kind="sd3")
    tokenizer, width = components.tokenizers[0], components.network.config.joint_attention_dim
    small = T5Config(vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    components.tokenizers[2], components.text_networks[2] = tokenizer, T5EncoderModel(small)
    save_components(components, tmp_path)
    whole = EditGuidance({"model": str(tmp_path)}).backbone.encode_prompts(["a red ball"])
    assert whole.hidden[:, 77:].abs().max() > 0
    for path in (tmp_path / "text_encoder_3").glob("*.safetensors"):
        path.unlink()
    without = EditGuidance({"model": str(tmp_path), "skip_t5": True}).backbone.encode_prompts(["a red ball"])
    assert without.hidden.shape[1] == 77 + 256
    assert without.hidden[:, 77:].abs().max() == 0
    assert torch.equal(without.hidden[:, :77], whole.hidden[:, :77])


def test_every_option_of_loading_is_a_key_of_the_guidance():
    options = set(inspect.signature(load_backbone).parameters) | set(inspect.signature(BackboneOptions).parameters)
    assert options - {"device", "options"} <= {field.name for field in dataclasses.fields(EditGuidance.Config)}


def test_the_folder_is_one_that_diffusers_reads(model_folder):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(model_folder)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a red ball", num_inference_steps=1, output_type="np").images.shape == (1, 32, 32, 3)


def test_a_hub_id_loads_from_the_cache_offline_and_keeps_its_commit(model_folder, hub_cache):
    commit = hub_cache("owner/tiny", model_folder)
    loaded = load_backbone("owner/tiny", offline=True)
    assert (loaded.model_id, loaded.revision) == ("owner/tiny", commit)
    assert same_numbers(loaded, load_backbone(model_folder))


def tiny_vae(channels=4):
    """A TAESD of random weights, as small as it gets."""
    from diffusers import AutoencoderTiny

    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1), latent_channels=channels,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "repository"),
    [("sd", "madebyollin/taesd"), ("sdxl", "madebyollin/taesdxl"), ("sd3", "madebyollin/taesd3")],
)
def test_taesd_is_the_one_that_fits_the_model_and_its_commit_is_kept(tmp_path, hub_cache, kind, repository):
    save_components(random_components(kind=kind), tmp_path / "model")
    tiny = tiny_vae()
    tiny.save_pretrained(tmp_path / "vae")
    model_commit = hub_cache("owner/tiny", tmp_path / "model")
    vae_commit = hub_cache(repository, tmp_path / "vae")
    loaded = load_backbone("owner/tiny", vae="taesd", offline=True, vae_dtype="bf16")
    assert loaded.provenance == {
        "model": "owner/tiny", "revision": model_commit, "dtype": "float32", "autocast": None, "lora": [],
        "embeddings": [], "quantization": "none",
        "vae": repository, "vae_revision": vae_commit, "vae_dtype": "bfloat16",
    }  # fmt: skip
    assert model_commit != vae_commit
    assert torch.equal(loaded.vae.encoder.layers[0].weight.float(), tiny.encoder.layers[0].weight.bfloat16().float())


def test_a_vae_that_is_not_in_the_cache_is_named_offline(model_folder, hub_cache):
    with pytest.raises(ConfigError, match="vae 'madebyollin/taesd' cannot be fetched: it is not in the local cache"):
        load_backbone(model_folder, vae="taesd", offline=True)


def test_provenance_of_a_folder_with_its_own_vae(model_folder):
    assert load_backbone(model_folder).provenance == {
        "model": str(model_folder), "revision": None, "dtype": "float32", "autocast": None, "lora": [],
        "embeddings": [], "quantization": "none", "vae": None, "vae_revision": None, "vae_dtype": "float32",
    }  # fmt: skip


def test_taesd_takes_the_place_of_the_vae(model_folder, tmp_path):
    tiny = tiny_vae()
    tiny.save_pretrained(tmp_path)
    backbone = load_backbone(model_folder, vae=str(tmp_path))
    images = torch.rand(1, 3, 16, 24, requires_grad=True)
    latents = backbone.encode(images)
    assert torch.equal(latents, tiny.encode(images * 2 - 1).latents)
    assert latents.shape == (1, 4, 4, 6)
    latents.sum().backward()
    assert images.grad.abs().max() > 0
    assert backbone.decode(latents.detach()).shape == images.shape
    assert torch.allclose(backbone.encode_condition(images) * 0.18215, latents, atol=1e-6)


def test_another_vae_must_be_a_vae(model_folder):
    with pytest.raises(SceneFormatError) as caught:
        load_backbone(model_folder, vae=str(model_folder / "unet"))
    assert str(caught.value) == (
        f"vae '{model_folder / 'unet'}' is a UNet2DConditionModel; "
        "expected an AutoencoderKL or AutoencoderTiny folder (config.json beside its weights); "
        "set vae=taesd, or leave vae empty for the model's own"
    )


def test_a_network_alone_is_not_a_model(model_folder):
    with pytest.raises(SceneFormatError) as caught:
        load_backbone(model_folder / "unet")
    assert str(caught.value) == (
        f"model '{model_folder / 'unet'}' holds one network (UNet2DConditionModel), not a whole model; "
        f"expected {FOLDER_LAYOUT}; point model= at such a folder or give a hub id"
    )


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(SceneFormatError) as caught:
        load_backbone(tmp_path)
    assert caught.value.what == f"model '{tmp_path}' holds no model_index.json"


def test_a_pipeline_of_another_kind(damaged):
    (damaged / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(SceneFormatError) as caught:
        load_backbone(damaged)
    assert caught.value.what == f"model '{damaged}' is a FluxPipeline, which is not supported"
    assert caught.value.fix == "choose a Stable Diffusion 1.x, 2.x, XL or 3.x model, or InstructPix2Pix"


@pytest.mark.parametrize(
    ("file", "content", "what"),
    [
        ("model_index.json", "{", "model '{}' cannot be read (model_index.json is not JSON: Expecting property"),
        ("model_index.json", "[]", "model '{}' cannot be read (model_index.json holds a list, not an object)"),
        ("scheduler/scheduler_config.json", None, "model '{}' holds no scheduler/scheduler_config.json"),
        ("vae/config.json", None, "part 'vae' of model '{}' cannot be read ("),
        ("unet/diffusion_pytorch_model.safetensors", None, "part 'unet' of model '{}' cannot be read (OSError"),
        ("unet/diffusion_pytorch_model.safetensors", "cut", "part 'unet' of model '{}' cannot be read ("),
        ("text_encoder/model.safetensors", "cut", "part 'text_encoder' of model '{}' cannot be read (Safetensor"),
        ("tokenizer", None, "part 'tokenizer' of model '{}' cannot be read (it has no vocabulary)"),
    ],
)
def test_missing_and_damaged_parts_are_named(damaged, file, content, what):
    path = damaged / file
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(SceneFormatError) as caught:
        load_backbone(damaged)
    assert caught.value.what.startswith(what.format(damaged))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("part", "file"), [("unet", "diffusion_pytorch_model"), ("text_encoder", "model")])
def test_missing_weights_are_not_filled_with_random_numbers(damaged, part, file):
    from safetensors.torch import load_file, save_file

    path = damaged / part / f"{file}.safetensors"
    weights = load_file(path)
    removed = sorted(weights)[0]
    del weights[removed]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(SceneFormatError) as caught:
        load_backbone(damaged)
    assert caught.value.what == (
        f"part '{part}' of model '{damaged}' cannot be read (1 weights are missing, {removed} first)"
    )
    assert caught.value.fix == AGAIN


def test_a_tokenizer_of_another_model(damaged):
    letter_tokenizer(extra_tokens=("dog</w>",)).save_pretrained(damaged / "tokenizer")
    with pytest.raises(SceneFormatError) as caught:
        load_backbone(damaged)
    assert caught.value.what == (
        f"part 'tokenizer' of model '{damaged}' cannot be read "
        "(it has 515 tokens, but the text encoder was made for 514)"
    )


def test_weights_of_another_shape(damaged):
    path = damaged / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"cross_attention_dim": 40}))
    with pytest.raises(SceneFormatError, match=r"part 'unet' of model '.*' cannot be read \("):
        load_backbone(damaged)


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("diffusers", "UNet9D"),
        ("diffusers", "DDPMScheduler"),
        ("diffusers", "ModelMixin"),
        ("transformers", "AutoModel"),
        ("transformers", "pipeline"),
        ("os", "UNet2DConditionModel"),
        ("a_module_beside", "UNet2DConditionModel"),
    ],
)
def test_a_part_of_a_class_that_is_none_of_ours(damaged, monkeypatch, library, name):
    """Nor is a module of that name imported, though it could be."""
    (damaged / "a_module_beside.py").write_text("UNet2DConditionModel = None")
    monkeypatch.syspath_prepend(damaged)
    index = json.loads((damaged / "model_index.json").read_text())
    (damaged / "model_index.json").write_text(json.dumps(index | {"unet": [library, name]}))
    with pytest.raises(SceneFormatError) as caught:
        load_backbone(damaged)
    assert caught.value.what == (
        f"part 'unet' of model '{damaged}' cannot be read (model_index.json says {library}.{name})"
    )
    assert "a_module_beside" not in sys.modules


def test_noise_that_has_no_timesteps(damaged):
    (damaged / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "EDMEulerScheduler"}')
    with pytest.raises(SceneFormatError) as caught:
        load_backbone(damaged)
    assert caught.value.what == (
        f"part 'scheduler' of model '{damaged}' cannot be read "
        "(scheduler EDMEulerScheduler describes continuous EDM noise, which has no timesteps)"
    )


def test_an_inpainting_network_is_refused(damaged):
    from diffusers import UNet2DConditionModel

    config = json.loads((damaged / "unet" / "config.json").read_text())
    UNet2DConditionModel.from_config(config | {"in_channels": 9}).save_pretrained(damaged / "unet")
    with pytest.raises(SceneFormatError) as caught:
        load_backbone(damaged)
    assert str(caught.value) == (
        f"model '{damaged}' reads 9 channels; expected 4 (text to image) or 8 (InstructPix2Pix); "
        "choose a text-to-image model, not one for inpainting, depth or upscaling"
    )


def test_an_unknown_precision_is_refused_before_anything_is_fetched():
    with pytest.raises(ConfigError) as caught:
        load_backbone("owner/name", dtype="fp17")
    assert str(caught.value) == "dtype is fp17; expected fp32 or fp16 or bf16; set dtype=fp32, or leave it out"


def test_distilled_networks_are_told_that_there_is_no_guidance(tmp_path):
    from diffusers import UNet2DConditionModel

    components = random_components()
    config = dict(components.network.config) | {"time_cond_proj_dim": 8, "_use_default_values": []}
    components.network = UNet2DConditionModel.from_config(config)
    backbone = Backbone(components)
    seen = {}
    backbone.network.time_embedding.register_forward_pre_hook(lambda module, args: seen.update(condition=args[1]))
    backbone.predict_noise(torch.randn(2, 4, 8, 8), 500, backbone.encode_prompts(["", "a"]))
    assert seen["condition"].tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]] * 2
