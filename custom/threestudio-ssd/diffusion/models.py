"""Finding and reading a model: hub id or folder -> components, with errors a user can act on."""

import contextlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ..errors import SceneFormatError, first_line
from .hub import fetch_file, resolve_model
from .noise import noise_levels
from .precision import choose_dtype, choose_vae_dtype

Kind = Literal["sd", "sdxl", "sd3"]
PIPELINE_KINDS: dict[str, Kind] = {
    "StableDiffusionPipeline": "sd",
    "StableDiffusionImg2ImgPipeline": "sd",
    "StableDiffusionInstructPix2PixPipeline": "sd",
    "LatentConsistencyModelPipeline": "sd",
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusionXLImg2ImgPipeline": "sdxl",
    "StableDiffusionXLInstructPix2PixPipeline": "sdxl",
    "StableDiffusion3Pipeline": "sd3",
}
TEXT_PARTS: dict[Kind, tuple[str, ...]] = {
    "sd": ("text_encoder",),
    "sdxl": ("text_encoder", "text_encoder_2"),
    "sd3": ("text_encoder", "text_encoder_2", "text_encoder_3"),
}
TAESD: dict[Kind, str] = {
    "sd": "madebyollin/taesd",
    "sdxl": "madebyollin/taesdxl",
    "sd3": "madebyollin/taesd3",
}
FOLDER_LAYOUT = "a folder in diffusers layout (model_index.json, unet/, vae/, text_encoder/, tokenizer/, scheduler/)"


@dataclass
class Components:
    """The parts of one model, as read from disk or made in memory.

    Args:
        kind: Which conditioning the network reads.
        network: U-Net or SD 3 transformer.
        vae: AutoencoderKL or AutoencoderTiny.
        tokenizers: One for each text network.
        text_networks: In the order of TEXT_PARTS; None where the model has none (a T5 left out).
        scheduler_config: Contents of scheduler_config.json.
        zero_empty_prompts: Whether an empty prompt is embedded as zeros.
        model_id: Hub id after aliases, or the folder.
        revision: Commit of the hub repository; None for a folder.
        lora: What was merged into the weights, ``path:strength``.
        vae_id: Hub id or folder of a VAE in place of the model's own; None for that.
        vae_revision: Commit of its hub repository; None for a folder, or the model's own.
    """

    kind: Kind
    network: nn.Module
    vae: nn.Module
    tokenizers: list[Any]
    text_networks: list[nn.Module | None]
    scheduler_config: Mapping[str, Any]
    zero_empty_prompts: bool = False
    model_id: str = "in memory"
    revision: str | None = None
    lora: list[str] = field(default_factory=list)
    vae_id: str | None = None
    vae_revision: str | None = None


@dataclass(frozen=True)
class Source:
    """Where the parts of a model are read from; the same calls serve a folder and a hub repository."""

    location: str
    revision: str | None
    variant: str | None
    is_offline: bool

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of every from_pretrained call."""
        return {"revision": self.revision, "local_files_only": self.is_offline}

    def read_part(self, loader: type, part: str | None, dtype: torch.dtype | None = None) -> Any:
        """One component by its class's from_pretrained; weights that are missing are an error, not random
        numbers.

        Raises:
            SceneFormatError: If the part is absent, damaged or of another shape than its config says.
        """
        options = dict(self.options)
        if part is not None:
            options["subfolder"] = part
        has_weights = issubclass(loader, nn.Module)
        if has_weights:
            options |= {"variant": self.variant, "output_loading_info": True, "dtype": dtype or torch.float32}
        try:
            with _quiet_libraries():
                loaded = loader.from_pretrained(self.location, **options)
        except Exception as error:  # the libraries raise a dozen kinds for a broken folder; all become one message
            raise self.broken(part, f"{type(error).__name__}: {first_line(error)}") from error
        if not has_weights:
            return loaded
        network, info = loaded
        if info["missing_keys"]:
            raise self.broken(
                part, f"{len(info['missing_keys'])} weights are missing, {min(info['missing_keys'])} first"
            )
        return network

    def broken(self, part: str | None, why: str) -> SceneFormatError:
        """The error for a part that cannot be read."""
        name = f"part '{part}' of model '{self.location}'" if part else f"model '{self.location}'"
        return SceneFormatError(
            what=f"{name} cannot be read ({why})",
            expected=FOLDER_LAYOUT,
            fix="copy or download the model again, or point model= at a complete one",
        )


def load_components(
    model: str | Path,
    *,
    device: torch.device,
    dtype: torch.dtype | str | None = None,
    vae_dtype: torch.dtype | str | None = None,
    vae: str | None = None,
    revision: str | None = None,
    variant: str | None = None,
    is_offline: bool = False,
    skip_t5: bool = False,
) -> Components:
    """Read every part of `model` by the libraries' own from_pretrained; arguments as in `load_backbone`.

    Raises:
        ConfigError: If there is no such model, or it cannot be fetched.
        SceneFormatError: If there is one, but it is broken or of a kind that is not supported.
    """
    choose_dtype(dtype, device), choose_vae_dtype(vae_dtype, device)  # a misspelt one fails before a download
    location, commit = resolve_model(model, revision=revision, is_offline=is_offline)
    source = Source(location, commit, variant, is_offline)
    index = _read_json(source, "model_index.json")
    kind = _kind_of(source, index)
    dtype, vae_dtype = choose_dtype(dtype, device, kind), choose_vae_dtype(vae_dtype, device)
    network_name = "transformer" if kind == "sd3" else "unet"
    network = source.read_part(_class_of(source, index, network_name), network_name, dtype)
    _check_channels(source, network)
    vae_id = vae_commit = None
    if vae is None:
        autoencoder = source.read_part(_class_of(source, index, "vae"), "vae", vae_dtype)
    else:
        name = TAESD[kind] if vae == "taesd" else vae
        vae_id, vae_commit = resolve_model(name, is_offline=is_offline, key="vae", probe="config.json")
        autoencoder = _read_other_vae(Source(vae_id, vae_commit, None, is_offline), vae_dtype)
    texts = [
        (None, None) if skip_t5 and part.endswith("_3") else _read_text(source, index, part, dtype)
        for part in TEXT_PARTS[kind]
    ]
    scheduler_config = _read_json(source, "scheduler/scheduler_config.json")
    try:
        noise_levels(scheduler_config)
    except ValueError as error:
        raise source.broken("scheduler", first_line(error)) from error
    return Components(
        kind=kind,
        network=network,
        vae=autoencoder,
        tokenizers=[tokenizer for tokenizer, _ in texts],
        text_networks=[text for _, text in texts],
        scheduler_config=scheduler_config,
        zero_empty_prompts=bool(index.get("force_zeros_for_empty_prompt", False)),
        model_id=location,
        revision=commit,
        vae_id=vae_id,
        vae_revision=vae_commit,
    )


def save_components(components: Components, folder: str | Path) -> None:
    """Write `components` as a folder in diffusers layout, for `load_backbone` and diffusers' pipelines."""
    folder = Path(folder)
    parts = {"transformer" if components.kind == "sd3" else "unet": components.network, "vae": components.vae}
    parts |= dict(zip(TEXT_PARTS[components.kind], components.text_networks, strict=True))
    token_parts = [part.replace("text_encoder", "tokenizer") for part in TEXT_PARTS[components.kind]]
    parts |= dict(zip(token_parts, components.tokenizers, strict=True))
    scheduler = dict(components.scheduler_config)
    index: dict[str, Any] = {
        "_class_name": _pipeline_of(components),
        "_diffusers_version": version("diffusers"),
        "scheduler": ["diffusers", scheduler["_class_name"]],
    }
    for name, part in parts.items():
        library = type(part).__module__.split(".")[0]
        index[name] = [None, None] if part is None else [library, type(part).__name__]
        if part is not None:
            with _quiet_libraries():
                part.save_pretrained(folder / name)
    if components.kind == "sdxl":
        index["force_zeros_for_empty_prompt"] = components.zero_empty_prompts
    if components.kind == "sd":
        index |= {
            "safety_checker": [None, None],
            "feature_extractor": [None, None],
            "requires_safety_checker": False,
        }
    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler, indent=2) + "\n")
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def _pipeline_of(components: Components) -> str:
    """The diffusers pipeline that reads such components."""
    if components.kind == "sd" and components.network.config.time_cond_proj_dim:
        return "LatentConsistencyModelPipeline"
    has_image_condition = components.network.config.in_channels == 2 * components.vae.config.latent_channels
    names = {
        "sd": ("StableDiffusionPipeline", "StableDiffusionInstructPix2PixPipeline"),
        "sdxl": ("StableDiffusionXLPipeline", "StableDiffusionXLInstructPix2PixPipeline"),
        "sd3": ("StableDiffusion3Pipeline",),
    }[components.kind]
    return names[has_image_condition]


def _kind_of(source: Source, index: Mapping[str, Any]) -> Kind:
    pipeline = index.get("_class_name")
    if pipeline not in PIPELINE_KINDS:
        raise SceneFormatError(
            what=f"model '{source.location}' is a {pipeline}, which is not supported",
            expected=f"one of {', '.join(sorted(PIPELINE_KINDS))}",
            fix="choose a Stable Diffusion 1.x, 2.x, XL or 3.x model, or InstructPix2Pix",
        )
    return PIPELINE_KINDS[pipeline]


def _check_channels(source: Source, network: nn.Module) -> None:
    num_read, num_written = network.config.in_channels, network.config.out_channels or network.config.in_channels
    if num_read not in (num_written, 2 * num_written):
        raise SceneFormatError(
            what=f"model '{source.location}' reads {num_read} channels",
            expected=f"{num_written} (text to image) or {2 * num_written} (InstructPix2Pix)",
            fix="choose a text-to-image model, not one for inpainting, depth or upscaling",
        )


def _class_of(source: Source, index: Mapping[str, Any], part: str) -> type:
    """The class that model_index.json names for a part, looked up in the library it names."""
    import diffusers
    import transformers

    library, name = index.get(part) or (None, None)
    module = {"diffusers": diffusers, "transformers": transformers}.get(library)
    if module is None or not hasattr(module, name):
        raise source.broken(part, f"model_index.json says {library}.{name}" if name else "model_index.json lacks it")
    return getattr(module, name)


def _read_text(source: Source, index: Mapping[str, Any], part: str, dtype: torch.dtype) -> tuple[Any, nn.Module | None]:
    """One tokenizer and its text network; (None, None) for SD 3's T5 where the model comes without it."""
    if part.endswith("_3") and not (index.get(part) or [None])[0]:
        return None, None
    network = source.read_part(_class_of(source, index, part), part, dtype)
    token_part = part.replace("text_encoder", "tokenizer")
    tokenizer = source.read_part(_class_of(source, index, token_part), token_part)
    if len(tokenizer) < 256:  # the library makes an empty one where the files are missing
        raise source.broken(token_part, "it has no vocabulary")
    if len(tokenizer) > network.config.vocab_size:
        why = f"it has {len(tokenizer)} tokens, but the text encoder was made for {network.config.vocab_size}"
        raise source.broken(token_part, why)
    return tokenizer, network


def _read_other_vae(source: Source, dtype: torch.dtype) -> nn.Module:
    """A VAE from its own folder or repository, such as TAESD."""
    import diffusers

    name = _read_json(source, "config.json").get("_class_name")
    if name not in ("AutoencoderKL", "AutoencoderTiny"):
        raise SceneFormatError(
            what=f"vae '{source.location}' is a {name}",
            expected="an AutoencoderKL or AutoencoderTiny folder (config.json beside its weights)",
            fix="set vae=taesd, or leave vae empty for the model's own",
        )
    return source.read_part(getattr(diffusers, name), None, dtype)


def _read_json(source: Source, name: str) -> dict[str, Any]:
    path = fetch_file(source.location, name, source.revision, source.is_offline)
    if path is None:
        raise _missing_index(source, name)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise source.broken(None, f"{name} is not JSON: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise source.broken(None, f"{name} holds a {type(content).__name__}, not an object")
    return content


def _missing_index(source: Source, name: str) -> SceneFormatError:
    """The error for a folder without the file that makes it a model, saying what stands there instead."""
    config = Path(source.location) / "config.json"
    found = "no " + name
    if name == "model_index.json" and config.is_file():
        with contextlib.suppress(ValueError, OSError, AttributeError):
            content = json.loads(config.read_text(encoding="utf-8"))
            architecture = content.get("_class_name") or (content.get("architectures") or ["an unknown network"])[0]
            found = f"one network ({architecture}), not a whole model"
    return SceneFormatError(
        what=f"model '{source.location}' holds {found}",
        expected=FOLDER_LAYOUT,
        fix="point model= at such a folder or give a hub id",
    )


@contextlib.contextmanager
def _quiet_libraries():
    """Keep the libraries' load reports and bars off the screen; what is wrong is raised instead."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    levels = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    has_bars = transformers_logging.is_progress_bar_enabled()
    diffusers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(levels[0])
        transformers_logging.set_verbosity(levels[1])
        if has_bars:
            transformers_logging.enable_progress_bar()
