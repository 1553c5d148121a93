"""Weights in fewer bits and networks that take turns: what diffusers and accelerate are told, and what is refused."""

import importlib.util
import shutil
import sys
import types

import pytest
import torch

from tests.edit_world import REPOSITORY
from tests.ssd.diffusion import original_names
from threestudio_ssd.diffusion import Backbone, load_backbone, quantization
from threestudio_ssd.diffusion import offload as offloading
from threestudio_ssd.diffusion.options import BackboneOptions
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.errors import ConfigError, MissingPackageError


@pytest.fixture
def packages(monkeypatch):
    """Packages that are there by name, and no others of those that quantise."""

    def there(*names):
        find = importlib.util.find_spec
        known = {name for needed in quantization.QUANTIZATIONS.values() for name in needed} | {"gguf"}
        monkeypatch.setattr(
            quantization.importlib.util, "find_spec",
            lambda name, *rest: object() if name in names else None if name in known else find(name, *rest),
        )  # fmt: skip

    return there


@pytest.mark.parametrize(("name", "package"), [("bnb-4bit", "bitsandbytes"), ("torchao-int8", "torchao")])
def test_a_missing_package_is_named_before_anything_is_loaded(packages, name, package):
    packages()
    message = f"quantization={name} needs the package {package}; .*pip install {package} .*requirements-extra.txt"
    with pytest.raises(MissingPackageError, match=message):
        load_backbone("no/such/model", quantization=name)


def test_ways_that_do_not_exist(tmp_path, model_folder):
    with pytest.raises(ConfigError, match="quantization is 'int3'; expected one of none, .*; set quantization=none"):
        BackboneOptions(quantization="int3")
    with pytest.raises(ConfigError, match="offload is 'all'; expected none or model"):
        BackboneOptions(offload="all")
    with pytest.raises(ConfigError, match="offload is model, and there is no GPU to offload from"):
        BackboneOptions(offload="model")


def test_a_network_is_read_by_its_quantiser_alone(packages, monkeypatch, model_folder):
    """The U-Net's from_pretrained gets the quantiser; VAE and text encoders do not."""
    import diffusers

    packages("torchao")
    kinds = types.ModuleType("torchao.quantization")
    kinds.Float8WeightOnlyConfig = lambda: "float8"
    package = types.ModuleType("torchao")
    package.quantization = kinds
    monkeypatch.setitem(sys.modules, "torchao", package)
    monkeypatch.setitem(sys.modules, "torchao.quantization", kinds)
    monkeypatch.setattr(diffusers, "TorchAoConfig", lambda **options: options)
    asked = {}
    for cls in (diffusers.UNet2DConditionModel, diffusers.AutoencoderKL):
        read = cls.from_pretrained

        def record(*given, cls=cls, read=read, **options):
            asked[cls] = options.pop("quantization_config", None)
            return read(*given, **options)

        monkeypatch.setattr(cls, "from_pretrained", record)
    backbone = load_backbone(model_folder, quantization="torchao-float8")
    assert asked == {diffusers.UNet2DConditionModel: {"quant_type": "float8"}, diffusers.AutoencoderKL: None}
    assert backbone.provenance["quantization"] == "torchao-float8"


def test_a_gguf_file_is_the_network(packages, monkeypatch, model_folder, tmp_path):
    import diffusers

    packages("gguf")
    asked = {}

    def read(path, **options):
        asked.update(options, path=path)
        return random_components().network

    monkeypatch.setattr(diffusers.UNet2DConditionModel, "from_single_file", read)
    monkeypatch.setattr(diffusers, "GGUFQuantizationConfig", lambda **options: options)
    file = tmp_path / "a.gguf"
    file.write_bytes(b"GGUF")
    backbone = load_backbone(model_folder, quantization=str(file))
    assert asked == {
        "path": str(file), "quantization_config": {"compute_dtype": torch.float32}, "config": str(model_folder),
        "subfolder": "unet", "dtype": torch.float32,
    }  # fmt: skip
    assert backbone.provenance["quantization"] == str(file)


def test_networks_take_turns(monkeypatch):
    """The VAE stays; network and text encoders come for their forward pass, and leave before the VAE works."""
    happened = []

    class Hook:
        def __init__(self, name):
            self.name = name

        def offload(self):
            happened.append(f"{self.name} leaves")

    def hooked(network, device, prev_module_hook=None):
        name = type(network).__name__
        network.register_forward_pre_hook(lambda *_: happened.append(f"{name} comes"))
        return network, Hook(name)

    monkeypatch.setattr("accelerate.cpu_offload_with_hook", hooked)
    monkeypatch.setattr(BackboneOptions, "__post_init__", lambda self: None)
    backbone = Backbone(random_components(), offload="model")
    assert isinstance(backbone._turns, offloading.Turns)
    prompts = backbone.encode_prompts(["a", ""])
    backbone.free_text_encoder()
    latents = backbone.encode(torch.rand(1, 3, 32, 32))
    backbone.predict_noise(latents.expand(2, -1, -1, -1), 500, prompts)
    backbone.decode(latents)
    leave = ["UNet2DConditionModel leaves", "CLIPTextModel leaves"]
    assert happened == ["CLIPTextModel comes", *leave, *leave, "UNet2DConditionModel comes", *leave]


@pytest.mark.parametrize(
    ("name", "package", "most"),
    [("torchao-int8", "torchao", 0.01), ("torchao-float8", "torchao", 0.05), ("gguf", "gguf", 0.01)],
)
def test_quantised_networks_predict_nearly_the_same(tmp_path, name, package, most):
    """The packages themselves, on the embedded model: the mean error of a prediction, relative to its mean size."""
    pytest.importorskip(package, reason=f"pip install {package} (requirements-extra.txt)")
    model = REPOSITORY / "data" / "tiny-ldm"
    if name == "gguf":  # its names number blocks as if every level had as many, which the embedded model has not
        model, name = even_model(model, tmp_path / "even"), str(tmp_path / "network.gguf")
        write_gguf(name, original_names.unet(load_backbone(model).network))
    plain = load_backbone(model)
    latents = torch.randn(1, plain.latent_channels, 16, 16)
    expected, got = (
        each.predict_noise(latents, 500, each.encode_prompts(["a red ball"]))
        for each in (plain, load_backbone(model, quantization=name))
    )
    error = float((got - expected).abs().mean() / expected.abs().mean())
    assert 0 < error < most


def even_model(model, folder):
    """The same with one layer at every level: those of its weights that fit."""
    shutil.copytree(model, folder)
    network = load_backbone(model).network
    even = type(network).from_config({**network.config, "layers_per_block": 1})
    own, fresh = network.state_dict(), even.state_dict()
    fitting = {name: own[name] for name, value in fresh.items() if name in own and own[name].shape == value.shape}
    assert len(fitting) > 0.8 * len(fresh)
    even.load_state_dict(fresh | fitting)
    even.save_pretrained(folder / "unet")
    return folder


def write_gguf(path, weights):
    """Matrices in 8 bits, the rest as they are."""
    import gguf

    writer, kind = gguf.GGUFWriter(path, "sd"), gguf.GGMLQuantizationType.Q8_0
    for name, weight in weights.items():
        values = weight.detach().float().numpy()
        if values.ndim == 2 and values.shape[-1] % 32 == 0:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
