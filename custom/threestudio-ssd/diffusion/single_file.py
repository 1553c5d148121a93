"""A whole model in one ``.safetensors`` file, with the names of its original code: which one it is, and its parts.

diffusers converts the weights (``from_single_file``). What the file does not hold comes from here: the published
architecture's configs, the scheduler's, and CLIP's tokenizer. Nothing is asked of the hub.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import threestudio

from ..errors import ConfigError, InputError, SceneFormatError, first_line
from ..files import write_json
from ..pretrained import ModelLocation, quiet_libraries
from .clip_tokenizer import clip_tokenizer
from .costs.architectures import ARCHITECTURES, SD3_TRANSFORMER, Architecture
from .families import SD3, SDXL
from .models import Components, OtherVae, read_vae
from .options import BackboneOptions

UNET = "model.diffusion_model."
FIRST_LAYER = f"{UNET}input_blocks.0.0.weight"
V_PREDICTION_LAYER = f"{UNET}output_blocks.11.1.transformer_blocks.0.norm1.bias"
V_PREDICTION_STD = 0.09
"""Above this standard deviation of that bias, a Stable Diffusion 2 predicts v: its weights keep no other trace."""
EXPECTED = "a whole Stable Diffusion 1.x, 2.x, XL or 3.x in one .safetensors file, network, VAE and text encoders"
OTHER_KINDS = {
    "double_blocks.0.": "FLUX, whose files hold the network alone",
    "conditioner.embedders.0.model.": "the SDXL refiner, which edits nothing by itself",
    "lora_": "a LoRA",
    "down_blocks.0.": "the network of a model alone, with names of diffusers",
}
"""What a file may be instead, by names that its weights begin with, with ``model.diffusion_model.`` left out."""


def read_single_file(
    location: ModelLocation, options: BackboneOptions, *, vae: OtherVae | None = None, skip_t5: bool = False
) -> Components:
    """Read every part of a model from one file.

    Args:
        location: The file.
        options: Precisions of the parts.
        vae: Another VAE than its own.
        skip_t5: Without effect: a file's T5 is always left out, since no file holds its tokenizer.

    Raises:
        ConfigError: If there is no such VAE, or it cannot be fetched.
        SceneFormatError: If the file cannot be read, or is no whole model of a kind that is supported.
    """
    import diffusers

    path = Path(location.location)
    if options.quantization != "none":
        what = f"quantization={options.quantization} with the single file {path.name}"
        fix = "leave quantization out, or name a folder in diffusers layout by model="
        raise ConfigError(what=what, expected="a model in diffusers layout", fix=fix)
    architecture = _architecture_of(path)
    family = architecture.family
    other_vae = vae and vae.place(family, is_offline=location.is_offline)
    with tempfile.TemporaryDirectory() as folder, quiet_libraries():
        tokenizers = _write_configs(Path(folder), architecture)
        common: dict[str, Any] = {"config": folder, "local_files_only": True}
        parts = dict(zip(family.token_parts, tokenizers, strict=True))
        parts |= {part: None for part in family.optional_parts}
        dtype = options.network_dtype(family)
        try:
            if other_vae is None:
                load = diffusers.AutoencoderKL.from_single_file
                autoencoder = load(str(path), subfolder="vae", dtype=options.autoencoder_dtype, **common)
            else:
                autoencoder = read_vae(other_vae, options.autoencoder_dtype)
            make = getattr(diffusers, family.pipelines[0]).from_single_file
            pipeline = make(str(path), torch_dtype=dtype, vae=autoencoder, **parts, **common)
        except InputError:
            raise
        except NotImplementedError as error:  # weights that nothing was copied into cannot be moved
            raise _unreadable(path, "weights of it are missing") from error
        except Exception as error:  # a dozen kinds for weights that do not fit; all become one message
            raise _unreadable(path, f"{type(error).__name__}: {first_line(error)}") from error
    components = Components(
        family=family,
        network=getattr(pipeline, family.network_part),
        vae=autoencoder,
        tokenizers=tokenizers,
        text_networks=[getattr(pipeline, part) for part in family.text_parts],
        scheduler_config=architecture.scheduler_config,
        zero_empty_prompts=bool(_index_of(architecture).get("force_zeros_for_empty_prompt", False)),
        model_id=str(path),
        vae_id=other_vae and other_vae.location,
        vae_revision=other_vae and other_vae.revision,
    )
    _check_whole(path, components)
    return components


def _architecture_of(path: Path) -> Architecture:
    """The published architecture whose weights a file holds, by their names and shapes."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
            bias = file.get_tensor(V_PREDICTION_LAYER) if V_PREDICTION_LAYER in shapes else None
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {first_line(error)}") from error
    if f"{UNET}joint_blocks.0.x_block.attn.qkv.weight" in shapes:
        threestudio.info(f"{path.name} is read without its T5, as with skip_t5=true: a file holds no tokenizer for it.")
        return replace(ARCHITECTURES[SD3.name], network=_sd3_config(shapes))
    has = {prefix: any(name.startswith(prefix) for name in shapes) for prefix in ("conditioner.embedders.1.",
        "cond_stage_model.model.", "cond_stage_model.transformer.")}  # fmt: skip
    if FIRST_LAYER not in shapes or not any(has.values()):
        raise _unreadable(path, f"it is {_other_kind(shapes)}")
    name = SDXL.name if has["conditioner.embedders.1."] else "sd15"
    if has["cond_stage_model.model."]:
        is_v = bias is not None and float(bias.float().std()) > V_PREDICTION_STD
        name = "sd21" if is_v else "sd21-base"
        threestudio.info(f"{path.name} is read as a Stable Diffusion 2 that predicts {'v' if is_v else 'epsilon'}.")
    architecture = ARCHITECTURES[name]
    network = architecture.network | {"in_channels": shapes[FIRST_LAYER][1]}
    if (told := shapes.get(f"{UNET}time_embed.cond_proj.weight")) is not None:
        network["time_cond_proj_dim"] = told[1]
    is_v = name == SDXL.name and "v_pred" in shapes
    return replace(architecture, network=network, scheduler="v_prediction" if is_v else architecture.scheduler)


def _sd3_config(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The config of a Stable Diffusion 3.x transformer, which says its sizes by its weights."""
    blocks = {int(name.split(".")[3]) for name in shapes if name.startswith(f"{UNET}joint_blocks.")}
    dual = [i for i in sorted(blocks) if f"{UNET}joint_blocks.{i}.x_block.attn2.qkv.weight" in shapes]
    norm = shapes.get(f"{UNET}joint_blocks.0.x_block.attn.ln_q.weight")
    width, depth = shapes[f"{UNET}x_embedder.proj.bias"][0], len(blocks)
    head = norm[0] if norm is not None else SD3_TRANSFORMER["attention_head_dim"]
    _, in_channels, patch, _ = shapes[f"{UNET}x_embedder.proj.weight"]
    return SD3_TRANSFORMER | {
        "patch_size": patch,
        "in_channels": in_channels,
        "out_channels": shapes[f"{UNET}final_layer.linear.bias"][0] // patch**2,
        "num_layers": depth,
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": shapes[f"{UNET}context_embedder.weight"][1],
        "caption_projection_dim": shapes[f"{UNET}context_embedder.weight"][0],
        "pooled_projection_dim": shapes[f"{UNET}y_embedder.mlp.0.weight"][1],
        "pos_embed_max_size": round(shapes[f"{UNET}pos_embed"][1] ** 0.5),
        "dual_attention_layers": tuple(dual),
        "qk_norm": None if norm is None else "rms_norm",
    }


def _write_configs(folder: Path, architecture: Architecture) -> list[Any]:
    """Write the configs of an architecture as a folder in diffusers layout; returns its tokenizers."""
    family = architecture.family
    with torch.device("meta"):
        parts = {family.network_part: architecture.make_network(), "vae": architecture.make_vae()}
        texts = architecture.make_texts()
    parts |= dict(zip(family.text_parts, texts, strict=False))
    index = _index_of(architecture)
    for name, part in parts.items():
        index[name] = [type(part).__module__.partition(".")[0], type(part).__name__]
        write_json(folder / name / "config.json", {**part.config.to_dict()} if name in family.text_parts
                   else {**part.config, "_class_name": type(part).__name__})  # fmt: skip
    write_json(folder / "scheduler" / "scheduler_config.json", architecture.scheduler_config)
    write_json(folder / "model_index.json", index)
    left_out = len(family.text_parts) - len(texts)
    are_openai = [text.get("hidden_act", "quick_gelu") == "quick_gelu" for text in architecture.texts]
    pads = ["<|endoftext|>" if is_openai else "!" for is_openai in are_openai]
    return [clip_tokenizer(pad_token=pad) for pad in pads] + [None] * left_out


def _index_of(architecture: Architecture) -> dict[str, Any]:
    """``model_index.json`` of an architecture; each part of the pipeline that is not there is null."""
    family = architecture.family
    absent: dict[str, Any] = {part: [None, None] for part in (*family.text_parts, *family.token_parts)}
    absent |= {part: ["transformers", "CLIPTokenizer"] for part in family.token_parts}
    return {
        **absent,
        "_class_name": family.pipelines[0],
        "scheduler": ["diffusers", architecture.scheduler_config["_class_name"]],
        **family.index_entries(zero_empty_prompts=True),
    }


def _check_whole(path: Path, components: Components) -> None:
    """Weights that the file lacks are an error, not random numbers."""
    for part, network in {"vae": components.vae, **components.networks()}.items():
        missing = [name for name, weight in network.named_parameters() if weight.is_meta]
        if missing:
            raise _unreadable(path, f"{len(missing)} weights of part '{part}' are missing, {missing[0]} first")


def _other_kind(names: Mapping[str, Any]) -> str:
    """What a file holds that is no whole model."""
    plain = [name.removeprefix(UNET) for name in names]
    kinds = (kind for start, kind in OTHER_KINDS.items() if any(name.startswith(start) for name in plain))
    return next(kinds, "no model that is known here")


def _unreadable(path: Path, why: str) -> SceneFormatError:
    fix = "name a whole checkpoint, or a folder in diffusers layout, by model="
    return SceneFormatError(what=f"model '{path}' cannot be read ({why})", expected=EXPECTED, fix=fix)
