"""Whole models in one file: tiny twins written under the original names are read back; others are named."""

from dataclasses import replace

import pytest
import torch
from huggingface_hub import errors
from safetensors.torch import save_file

from tests.ssd.diffusion import original_names
from threestudio_ssd import pretrained
from threestudio_ssd.diffusion import Backbone, load_backbone, single_file
from threestudio_ssd.diffusion.clip_tokenizer import clip_tokenizer
from threestudio_ssd.diffusion.costs.architectures import ARCHITECTURES, clip_config
from threestudio_ssd.diffusion.models import MODEL, save_components
from threestudio_ssd.diffusion.random import TINY_VAE, assembled
from threestudio_ssd.errors import SceneFormatError
from threestudio_ssd.pretrained import ModelLocation

WIDTHS = (32, 48)
NAMES = {"sd15": ("clip",), "sd21-base": ("open_clip",), "sd21": ("open_clip",), "sdxl": ("clip", "open_clip")}
TEXT_PREFIXES = {
    "sdxl": ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."),
    "sd3": ("text_encoders.clip_l.transformer.", "text_encoders.clip_g.transformer."),
}


def tiny_architecture(name):
    """A published architecture with a handful of channels; its tokens are those of CLIP."""
    published = ARCHITECTURES[name]
    family, widths = published.family, WIDTHS[: len(published.texts)]
    network = family.tiny_config(4, 8)
    if name == "sd3":
        network |= {"joint_attention_dim": 96, "pooled_projection_dim": sum(widths), "qk_norm": "rms_norm",
                    "attention_head_dim": 8, "dual_attention_layers": (0,)}  # fmt: skip
    else:
        network["cross_attention_dim"] = sum(widths)
    if name == "sdxl":
        network["projection_class_embeddings_input_dim"] = widths[1] + 6 * 8
    texts = tuple(
        clip_config(width, 2, 4, width, hidden_act=old.get("hidden_act", "quick_gelu"))
        for width, old in zip(widths, published.texts, strict=True)
    )
    kept = {key: value for key, value in published.vae.items() if key in ("scaling_factor", "shift_factor")}
    vae = TINY_VAE | kept | {"mid_block_add_attention": True}
    if name == "sd3":
        vae |= {"use_quant_conv": False, "use_post_quant_conv": False}
    return replace(published, network=network, vae=vae, texts=texts, image_size=32)


def twin_of(architecture, name):
    torch.manual_seed(1)
    parts = architecture.make_network(), architecture.make_vae(), architecture.make_texts()
    components = assembled(architecture.family, *parts, architecture.scheduler, name)
    pads = ["<|endoftext|>" if text.config.hidden_act == "quick_gelu" else "!" for text in parts[2]]
    components.tokenizers[: len(pads)] = [clip_tokenizer(pad_token=pad) for pad in pads]
    components.zero_empty_prompts = name == "sdxl"
    return components


def original_weights(components, name):
    write_network = original_names.sd3_transformer if name == "sd3" else original_names.unet
    weights = write_network(components.network) | original_names.vae(components.vae)
    writers = [getattr(original_names, kind) for kind in NAMES.get(name, ("clip", "clip"))]
    for index, (write, text) in enumerate(zip(writers, components.text_networks, strict=False)):
        weights |= write(text, *TEXT_PREFIXES[name][index : index + 1]) if name in TEXT_PREFIXES else write(text)
    if name == "sd3":
        del weights["text_encoders.clip_l.transformer.text_projection.weight"]
    return {key: weight.contiguous().clone() for key, weight in weights.items()}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a twin as one file; returns its components and the path."""

    def write(name):
        architecture = tiny_architecture(name)
        monkeypatch.setitem(ARCHITECTURES, name, architecture)
        components = twin_of(architecture, name)
        path = tmp_path / f"{name}.safetensors"
        if name == "sd3":  # such files have none of its own: it is the unit
            torch.nn.init.eye_(components.text_networks[0].text_projection.weight)
        save_file(original_weights(components, name), path)
        return components, path

    return write


def predictions(backbone):
    """What a backbone makes of fixed images, prompts and noise."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 32, 32, generator=generator)
    latents = backbone.encode(images)
    noisy = backbone.add_noise(latents, torch.randn(latents.shape, generator=generator), 400)
    prompts = backbone.encode_prompts(["a photo of a red ball", ""])
    return [latents, backbone.predict_noise(noisy, 400, prompts), backbone.decode(latents)]


@pytest.mark.parametrize("name", ["sd15", "sd21-base", "sdxl", "sd3"])
def test_a_file_gives_the_model_that_was_written(written, name):
    components, path = written(name)
    backbone = load_backbone(path, offline=True)
    assert backbone.provenance["model"] == str(path)
    assert backbone.family.name == ARCHITECTURES[name].family.name
    for got, expected in zip(predictions(backbone), predictions(Backbone(components)), strict=True):
        assert torch.allclose(got, expected, atol=1e-5)


def test_a_second_version_that_predicts_v_is_known_by_one_bias(written, monkeypatch):
    components, path = written("sd21")
    layer = "model.diffusion_model.output_blocks.1.1.transformer_blocks.0.norm1.bias"
    monkeypatch.setattr(single_file, "V_PREDICTION_LAYER", layer)
    weights = original_weights(components, "sd21")
    weights[layer] = torch.linspace(-0.3, 0.3, weights[layer].numel())
    save_file(weights, path)
    assert load_backbone(path).prediction_type == "v_prediction"
    monkeypatch.setitem(ARCHITECTURES, "sd21-base", tiny_architecture("sd21-base"))
    save_file(weights | {layer: torch.zeros_like(weights[layer])}, path)
    assert load_backbone(path).prediction_type == "epsilon"


def test_options_reach_the_parts_of_a_file(written, tmp_path):
    components, path = written("sd15")
    save_components(components, tmp_path / "folder")
    with pytest.raises(SceneFormatError, match="vae '.*' is a None|holds no config.json"):
        load_backbone(path, vae=str(tmp_path))
    backbone = load_backbone(path, dtype="bf16", vae=str(tmp_path / "folder" / "vae"))
    assert backbone.network.dtype == torch.bfloat16
    assert backbone.text_encoders.networks[0].dtype == torch.bfloat16
    assert backbone.vae.dtype == torch.float32
    assert backbone.provenance["vae"] == str(tmp_path / "folder" / "vae")


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["double_blocks.0.img_attn.qkv.weight"], "it is FLUX, whose files hold the network alone"),
        (["model.diffusion_model.double_blocks.0.x"], "it is FLUX, whose files hold the network alone"),
        (["lora_unet_x.lora_up.weight"], "it is a LoRA"),
        (["down_blocks.0.resnets.0.conv1.weight"], "it is the network of a model alone, with names of diffusers"),
        (["x"], "it is no model that is known here"),
    ],
)
def test_files_of_other_kinds(tmp_path, names, why):
    path = tmp_path / "a.safetensors"
    save_file({name: torch.zeros(1) for name in names}, path)
    with pytest.raises(SceneFormatError) as caught:
        load_backbone(path)
    assert str(caught.value) == (
        f"model '{path}' cannot be read ({why}); expected {single_file.EXPECTED}; "
        "name a whole checkpoint, or a folder in diffusers layout, by model="
    )


def test_missing_weights_and_broken_files(written):
    components, path = written("sd15")
    weights = original_weights(components, "sd15")
    del weights["model.diffusion_model.out.2.bias"]
    save_file(weights, path)
    with pytest.raises(SceneFormatError, match="weights of it are missing"):
        load_backbone(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SceneFormatError, match=r"cannot be read \(SafetensorError: "):
        load_backbone(path)


def test_the_tokenizer_is_that_of_clip():
    """Ids that are printed in the documentation of CLIP and of Stable Diffusion."""
    tokenizer = clip_tokenizer()
    assert len(tokenizer) == 49408
    assert tokenizer("a photo of a cat")["input_ids"] == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer(["a"], padding="max_length")["input_ids"][0][-1] == 49407
    assert clip_tokenizer(pad_token="!")(["a"], padding="max_length")["input_ids"][0][-1] == 0


@pytest.mark.parametrize("name", ["sd15", "sd21", "ip2p", "sdxl", "sd3", "sd35-medium", "lcm"])
def test_the_published_sizes_are_told_by_shapes(tmp_path, monkeypatch, name):
    """Networks of full size, on the meta device: the shapes of a file's weights say which of them it is."""
    published = ARCHITECTURES[name]
    with torch.device("meta"):
        network = published.make_network()
    write = original_names.sd3_transformer if published.family.name == "sd3" else original_names.unet
    weights = write(network)
    prefix = {"sdxl": "conditioner.embedders.1.", "sd21": "cond_stage_model.model."}.get(
        name, "cond_stage_model.transformer."
    )
    weights[f"{prefix}x"] = torch.zeros(1)
    monkeypatch.setattr("safetensors.safe_open", lambda *_, **__: HeaderOf(weights))
    found = single_file._architecture_of(tmp_path / "a.safetensors")
    with torch.device("meta"):
        made = found.make_network()
    assert {key: value.shape for key, value in made.state_dict().items()} == {
        key: value.shape for key, value in network.state_dict().items()
    }
    unlike = {"sample_size", "_use_default_values"}  # both forms of Stable Diffusion 2 have the same weights
    for key in set(network.config) - unlike:
        assert made.config[key] == network.config[key], key


class HeaderOf:
    """A file whose header alone is read; the bias that tells v from epsilon is one that predicts v."""

    def __init__(self, weights):
        self.weights = weights

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        pass

    def keys(self):
        return self.weights.keys()

    def get_slice(self, name):
        return type("Slice", (), {"get_shape": lambda _: list(self.weights[name].shape)})()

    def get_tensor(self, name):
        return torch.linspace(-1, 1, self.weights[name].numel())


def test_only_a_variant_is_found_by_itself(model_folder, tmp_path):
    """A folder whose weights are all fp16 files needs no variant=."""
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    for file in folder.rglob("*.safetensors"):
        file.rename(file.with_name(f"{file.stem}.fp16.safetensors"))
    plain, variant = load_backbone(model_folder), load_backbone(folder)
    for got, expected in zip(predictions(variant), predictions(plain), strict=True):
        assert torch.equal(got, expected)


def test_which_variant_is_taken(monkeypatch):
    def variant_of(*names, is_offline=False):
        pretrained._files_on_hub.cache_clear()
        monkeypatch.setattr("huggingface_hub.list_repo_files", lambda *_, **__: list(names))
        return ModelLocation("owner/name", MODEL, "abc", is_offline).only_variant("unet")

    fp16, plain = "unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.safetensors"
    assert variant_of(fp16) == "fp16"
    assert variant_of(fp16, plain) is None
    assert variant_of(fp16, plain.replace("safetensors", "bin")) is None
    assert variant_of("vae/diffusion_pytorch_model.fp16.safetensors") is None
    assert variant_of("unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors", "unet/config.json") == "fp16"
    assert variant_of("unet/diffusion_pytorch_model.non_ema.safetensors", fp16) == "fp16"


@pytest.mark.parametrize("error", [ConnectionError("refused"), errors.HTTPError("no route")], ids=["socket", "client"])
def test_a_hub_that_cannot_be_listed_is_said_once_and_the_cache_counts(error, monkeypatch, tmp_path):
    asked, said = [], []

    def refuse(*args, **more):
        asked.append(args)
        raise error

    (tmp_path / "unet").mkdir()
    for name in ("model_index.json", "unet/diffusion_pytorch_model.fp16.safetensors"):
        (tmp_path / name).touch()
    monkeypatch.setattr("huggingface_hub.list_repo_files", refuse)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: str(tmp_path / "model_index.json"))
    monkeypatch.setattr("threestudio.warn", said.append)
    pretrained._files_on_hub.cache_clear()
    location = ModelLocation("owner/name", MODEL, "abc")
    assert (location.only_variant("unet"), location.only_variant("vae")) == ("fp16", None)
    assert len(asked) == 1
    assert said == [f"'owner/name' cannot be listed on the hub ({error}); its files in the local cache are taken."]
    error = RuntimeError("a bug")
    pretrained._files_on_hub.cache_clear()
    with pytest.raises(RuntimeError, match="a bug"):
        location.only_variant("unet")
