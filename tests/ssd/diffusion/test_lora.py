"""LoRA files: every naming in use gives the same weights; files that do not fit are named."""

import json

import pytest
import torch
from safetensors.torch import save_file

from threestudio.plugins import REPOSITORY
from threestudio_ssd.diffusion import load_backbone
from threestudio_ssd.diffusion.families.unet import diffusers_name
from threestudio_ssd.diffusion.lora import Lora, merge_loras
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.errors import ConfigError, SceneFormatError

LINEAR = "up_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "up_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0"
CONV = "down_blocks.0.resnets.0.conv1"
TEXT = "encoder.layers.0.self_attn.q_proj"
EXPECTED = "a .safetensors LoRA for this kind of model, with diffusers, PEFT or kohya names"


@pytest.fixture
def matrices(generator):
    """Rank-2 (down, up) of three U-Net layers and one of the text encoder."""
    components = random_components()
    shapes = {name: components.network.get_submodule(name).weight.shape for name in (LINEAR, OUT, CONV)}
    shapes[TEXT] = components.text_networks[0].get_submodule(TEXT).weight.shape
    return {
        name: (
            torch.randn(2, *shape[1:], generator=generator),
            torch.randn(shape[0], 2, *[1] * (len(shape) - 2), generator=generator),
        )
        for name, shape in shapes.items()
    }


def kohya(matrices):
    for name, (down, up) in matrices.items():
        flat = ("lora_te_text_model_" if name == TEXT else "lora_unet_") + name.replace(".", "_")
        yield from {f"{flat}.lora_down.weight": down, f"{flat}.lora_up.weight": up}.items()
        yield f"{flat}.alpha", torch.tensor(3.0)


def peft(matrices):
    for name, (down, up) in matrices.items():
        full = ("text_encoder.text_model." if name == TEXT else "unet.") + name
        yield from {
            f"{full}.lora_A.weight": down,
            f"{full}.lora_B.weight": up,
            f"{full}.alpha": torch.tensor(3.0),
        }.items()


def diffusers_of_old(matrices):
    for name, (down, up) in matrices.items():
        if name == TEXT:
            full, dot = f"text_encoder.text_model.{name}.lora_linear_layer", "."
        elif "attn" in name:
            start, _, layer = name.removesuffix(".0").rpartition(".")
            full, dot = f"unet.{start}.processor.{layer}_lora", "."
        else:
            full, dot = f"unet.{name}.lora", "."
        yield from {f"{full}{dot}down.weight": down, f"{full}{dot}up.weight": up}.items()


@pytest.mark.parametrize(("names", "alpha"), [(kohya, 3.0), (peft, 3.0), (diffusers_of_old, 2.0)])
def test_every_naming_adds_the_same_product(tmp_path, matrices, names, alpha):
    path = tmp_path / "lora.safetensors"
    save_file(dict(names(matrices)), path)
    before, after = random_components(), random_components()
    merge_loras(after, [f"{path}:0.5"])
    assert after.lora == [f"{path}:0.5"]
    changed = set()
    for old, new in [(before.network, after.network), (before.text_networks[0], after.text_networks[0])]:
        for name, layer in new.named_modules():
            if isinstance(getattr(layer, "weight", None), torch.Tensor):
                difference = layer.weight - old.get_submodule(name).weight
                if difference.abs().max() > 0:
                    changed.add(name)
                    down, up = (each.double() for each in matrices[name])
                    product = torch.einsum("or,ri->oi", up.flatten(1), down.flatten(1)).reshape(layer.weight.shape)
                    assert torch.allclose(difference.double(), 0.5 * alpha / 2 * product, atol=1e-6)
    assert changed == {LINEAR, OUT, CONV, TEXT}


def test_alpha_may_stand_in_the_header(tmp_path, matrices):
    path = tmp_path / "lora.safetensors"
    tensors = {key: value for key, value in peft({LINEAR: matrices[LINEAR]}) if not key.endswith("alpha")}
    save_file(tensors, path, metadata={"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 6})})
    before, after = random_components(), random_components()
    merge_loras(after, [path])
    difference = (after.network.get_submodule(LINEAR).weight - before.network.get_submodule(LINEAR).weight).detach()
    down, up = matrices[LINEAR]
    assert torch.allclose(difference, 3 * up @ down, atol=1e-5)


def test_a_loaded_backbone_carries_its_loras(tmp_path, matrices, model_folder):
    path = tmp_path / "lora.safetensors"
    save_file(dict(kohya(matrices)), path)
    plain, changed = load_backbone(model_folder), load_backbone(model_folder, lora=str(path))
    assert changed.lora == (f"{path}:1",)
    latents, prompts = torch.randn(1, 4, 8, 8), plain.encode_prompts(["a"])
    found = [each.predict_noise(latents, 500, prompts) for each in (plain, changed)]
    assert not torch.allclose(*found, atol=1e-3)


@pytest.mark.parametrize(
    ("original", "diffusers"),
    [
        ("input_blocks_0_0", "conv_in"),
        ("input_blocks_1_0_in_layers_2", "down_blocks_0_resnets_0_conv1"),
        ("input_blocks_3_0_op", "down_blocks_0_downsamplers_0_conv"),
        ("input_blocks_4_1_proj_in", "down_blocks_1_attentions_0_proj_in"),
        ("input_blocks_8_1_norm", "down_blocks_2_attentions_1_norm"),
        ("middle_block_0_emb_layers_1", "mid_block_resnets_0_time_emb_proj"),
        ("middle_block_1_transformer_blocks_0_ff_net_2", "mid_block_attentions_0_transformer_blocks_0_ff_net_2"),
        ("middle_block_2_out_layers_3", "mid_block_resnets_1_conv2"),
        ("output_blocks_2_1_proj_out", "up_blocks_0_attentions_2_proj_out"),
        ("output_blocks_2_2_conv", "up_blocks_0_upsamplers_0_conv"),
        ("output_blocks_3_0_skip_connection", "up_blocks_1_resnets_0_conv_shortcut"),
        ("time_embed_2", "time_embedding_linear_2"),
        ("down_blocks_0_resnets_0_conv1", "down_blocks_0_resnets_0_conv1"),
    ],
)  # fmt: skip
def test_original_sdxl_names_are_translated(original, diffusers):
    assert diffusers_name(original, per_level=2) == diffusers


def test_levels_may_have_layers_of_their_own():
    depths = [2, 1, 1]
    originals = {
        "input_blocks_2_0_in_layers_2": "down_blocks_0_resnets_1_conv1",
        "input_blocks_3_0_op": "down_blocks_0_downsamplers_0_conv",
        "input_blocks_5_0_op": "down_blocks_1_downsamplers_0_conv",
        "input_blocks_6_1_norm": "down_blocks_2_attentions_0_norm",
        "output_blocks_1_2_conv": "up_blocks_0_upsamplers_0_conv",
        "output_blocks_3_1_norm": "up_blocks_1_attentions_1_norm",
        "output_blocks_6_0_skip_connection": "up_blocks_2_resnets_2_conv_shortcut",
    }
    assert {name: diffusers_name(name, per_level=depths) for name in originals} == originals


def test_translated_names_exist_in_sdxl():
    from diffusers import UNet2DConditionModel

    from threestudio_ssd.diffusion.costs.architectures import ARCHITECTURES

    with torch.device("meta"):
        unet = UNet2DConditionModel(**ARCHITECTURES["sdxl"].network)
    names = {name.replace(".", "_") for name, _ in unet.named_modules()}
    attention = "input_blocks_8_1_transformer_blocks_9_attn2_to_out_0"
    others = ["output_blocks_5_2_conv", "input_blocks_6_0_op", "output_blocks_8_0_skip_connection"]
    for original in [attention, *others, "output_blocks_2_1_proj_out"]:
        assert diffusers_name(original, per_level=2) in names


def test_files_that_are_not_there_and_strengths():
    with pytest.raises(ConfigError) as caught:
        Lora.of("missing.safetensors:0.5")
    assert str(caught.value) == (
        "lora 'missing.safetensors:0.5' is not a file; expected the path of a .safetensors file, or path:strength; "
        "download the LoRA file and correct lora="
    )


def test_the_shipped_lora_is_named_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lora = Lora.of("data/tiny-lcm/lora.safetensors:0.5")
    assert lora.path == str(REPOSITORY / "data/tiny-lcm/lora.safetensors")
    assert lora.strength == 0.5


def test_a_missing_lora_is_told_before_a_model_is_looked_for():
    with pytest.raises(ConfigError, match=r"lora 'missing.safetensors' is not a file"):
        load_backbone("nobody/no-such-model", lora="missing.safetensors")


def test_a_lora_of_another_architecture(tmp_path, generator):
    path = tmp_path / "lora.safetensors"
    down, up = torch.randn(2, 999, generator=generator), torch.randn(32, 2, generator=generator)
    for name in (LINEAR, "up_blocks.7.conv"):
        save_file({f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}, path)
        with pytest.raises(SceneFormatError) as caught:
            merge_loras(random_components(), [path])
        assert str(caught.value) == (
            f"lora '{path}' does not fit model 'random-sd-epsilon' (at unet {name.replace('.', '_')}); "
            f"expected {EXPECTED}; choose a LoRA that was trained for this model, or remove it from lora="
        )


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({"unet.x.dora_scale": 1}, "a layer has no whole set of LoRA matrices"),
        ({"means": 3}, "'means' is no matrix of a LoRA, LoCon, LoHa, LoKr or DoRA"),
        ({"unet.x.lora_A.weight": 2}, "a layer has no whole set of LoRA matrices"),
        ({"unet.x.hada_w1_a": 2, "unet.x.hada_w1_b": 2}, "a layer has no whole set of LoRA matrices"),
        ({}, "it is empty"),
    ],
)
def test_files_that_hold_no_lora(tmp_path, tensors, why):
    path = tmp_path / "lora.safetensors"
    save_file({key: torch.zeros(size) for key, size in tensors.items()}, path)
    with pytest.raises(SceneFormatError) as caught:
        merge_loras(random_components(), [path])
    assert str(caught.value) == (
        f"lora '{path}' cannot be read ({why}); expected {EXPECTED}; correct lora=, or download it again"
    )


def test_a_damaged_file(tmp_path):
    path = tmp_path / "lora.safetensors"
    path.write_text("not a safetensors file")
    with pytest.raises(SceneFormatError, match=r"cannot be read \(SafetensorError: "):
        merge_loras(random_components(), [path])


def drawn(generator, *shapes):
    return [torch.randn(*shape, generator=generator) for shape in shapes]


def loha(shape, generator):
    """Two products, multiplied number by number."""
    rows, columns = shape[0], shape[1:].numel()
    w1a, w1b, w2a, w2b = drawn(generator, (rows, 2), (2, columns), (rows, 2), (2, columns))
    names = {"hada_w1_a": w1a, "hada_w1_b": w1b, "hada_w2_a": w2a, "hada_w2_b": w2b, "alpha": torch.tensor(3.0)}
    return names, 3 / 2 * (w1a.double() @ w1b.double()) * (w2a.double() @ w2b.double())


def loha_tucker(shape, generator):
    """The same for a convolution whose kernels have factors of their own."""
    factors = drawn(generator, (2, 2, *shape[2:]), (2, shape[0]), (2, shape[1]))
    others = drawn(generator, (2, 2, *shape[2:]), (2, shape[0]), (2, shape[1]))
    products = [torch.einsum("ijkl,ip,jr->prkl", *(each.double() for each in three)) for three in (factors, others)]
    kinds = ("hada_t1", "hada_w1_a", "hada_w1_b", "hada_t2", "hada_w2_a", "hada_w2_b")
    names = dict(zip(kinds, factors + others, strict=True))
    return names, products[0] * products[1]


def lokr(shape, generator):
    """A Kronecker product of a whole matrix and of a product; alpha counts."""
    w1, a, b = drawn(generator, (2, 2), (shape[0] // 2, 3), (3, shape[1:].numel() // 2))
    names = {"lokr_w1": w1, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": torch.tensor(6.0)}
    return names, 2 * torch.kron(w1.double(), a.double() @ b.double())


def lokr_whole(shape, generator):
    """The same of two whole matrices; alpha does not count then."""
    w1, w2 = drawn(generator, (4, 2), (shape[0] // 4, shape[1] // 2, *shape[2:]))
    whole = torch.einsum("ab,cd...->acbd...", w1.double(), w2.double()).reshape(shape)
    return {"lokr_w1": w1, "lokr_w2": w2, "alpha": torch.tensor(1e10)}, whole


def locon(shape, generator):
    """A convolution with a factor between the two."""
    down, mid, up = drawn(generator, (2, shape[1], 1, 1), (2, 2, *shape[2:]), (shape[0], 2, 1, 1))
    names = {"lora_down.weight": down, "lora_mid.weight": mid, "lora_up.weight": up, "alpha": torch.tensor(1.0)}
    flat_down, flat_up = down.double().flatten(1), up.double().flatten(1)
    return names, torch.einsum("oi,ijkl,jn->onkl", flat_up, mid.double(), flat_down) / 2


@pytest.mark.parametrize(
    ("name", "make"),
    [(LINEAR, loha), (CONV, loha), (CONV, loha_tucker), (LINEAR, lokr), (CONV, lokr), (LINEAR, lokr_whole),
     (CONV, lokr_whole), (CONV, locon)],
)  # fmt: skip
def test_relatives_add_what_their_papers_say(tmp_path, generator, name, make):
    path = tmp_path / "a.safetensors"
    before, after = random_components(), random_components()
    weight = before.network.get_submodule(name).weight.double()
    tensors, expected = make(weight.shape, generator)
    save_file({f"lora_unet_{name.replace('.', '_')}.{key}": value for key, value in tensors.items()}, path)
    merge_loras(after, [f"{path}:0.5"])
    difference = after.network.get_submodule(name).weight.double() - weight
    assert torch.allclose(difference, 0.5 * expected.reshape(weight.shape), atol=1e-5)


@pytest.mark.parametrize("axis", ["rows", "columns", "peft"])
def test_a_dora_gives_rows_or_columns_their_length(tmp_path, generator, matrices, axis):
    """At strength 1 the lengths are those of the file, whatever is added; at 0 nothing changes."""
    path = tmp_path / "dora.safetensors"
    down, up = matrices[LINEAR]
    before = random_components().network.get_submodule(LINEAR).weight.double()
    count = before.shape[1 if axis == "columns" else 0]
    lengths = torch.rand(count, generator=generator) + 0.5
    key, shape = {"rows": ("dora_scale", (-1, 1)), "columns": ("dora_scale", (1, -1)),
                  "peft": ("lora_magnitude_vector.weight", (-1,))}[axis]  # fmt: skip
    file = {f"unet.{LINEAR}.lora_A.weight": down, f"unet.{LINEAR}.lora_B.weight": up}
    save_file(file | {f"unet.{LINEAR}.{key}": lengths.reshape(shape).contiguous()}, path)
    whole = before + up.double() @ down.double()
    dim = 0 if axis == "columns" else 1
    expected = whole / whole.norm(dim=dim, keepdim=True) * lengths.double().unsqueeze(dim)
    for strength in (1.0, 0.25, 0.0):
        after = random_components()
        merge_loras(after, [f"{path}:{strength}"])
        got = after.network.get_submodule(LINEAR).weight.double()
        assert torch.allclose(got, before + strength * (expected - before), atol=1e-5)
