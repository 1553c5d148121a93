"""Reading and writing a whole model: its parts as the libraries keep them, with errors a user can act on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..errors import SceneFormatError, first_line
from ..files import write_json
from ..pretrained import ModelLocation, ModelUse, locate, quiet_libraries
from .families import FAMILIES, Family, family_of_pipeline
from .noise import noise_levels
from .options import BackboneOptions
from .quantization import is_gguf, network_config, read_gguf

FOLDER_LAYOUT = "a folder in diffusers layout (model_index.json, unet/, vae/, text_encoder/, tokenizer/, scheduler/)"
MODEL = ModelUse(
    key="model",
    expected="a folder in diffusers layout, a .safetensors checkpoint, or a hub id such as "
    "stable-diffusion-v1-5/stable-diffusion-v1-5",
    layout=FOLDER_LAYOUT,
    probe="model_index.json",
    fix="correct the path in model=, or leave the key out for the embedded model",
    convert="convert it with diffusers (from_single_file, save_pretrained) and ",
    error=SceneFormatError,
    takes_file=True,
)
VAE = ModelUse(
    key="vae",
    expected="taesd, or a folder or hub id of an AutoencoderKL or AutoencoderTiny",
    layout="an AutoencoderKL or AutoencoderTiny folder (config.json beside its weights)",
    fix="set vae=taesd, or leave vae empty for the model's own",
    error=SceneFormatError,
)

PARTS: Mapping[str | None, frozenset[str]] = {
    "diffusers": frozenset({"UNet2DConditionModel", "SD3Transformer2DModel", "AutoencoderKL", "AutoencoderTiny"}),
    "transformers": frozenset({
        "CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel", "CLIPTokenizer", "CLIPTokenizerFast",
        "T5Tokenizer", "T5TokenizerFast",
    }),
}  # fmt: skip
"""Classes that a model's folder may name for its parts, by library; beside those of its family."""


@dataclass
class Components:
    """The parts of one model, as read from disk or made in memory.

    Args:
        family: Which kind of model they make.
        network: U-Net or transformer.
        vae: AutoencoderKL or AutoencoderTiny.
        tokenizers: One for each text network.
        text_networks: In the order of the family's text parts; None where the model has none (a T5 left out).
        scheduler_config: Contents of scheduler_config.json.
        zero_empty_prompts: Whether an empty prompt is embedded as zeros.
        model_id: Hub id after aliases, or the folder.
        revision: Commit of the hub repository; None for a folder.
        lora: What was merged into the weights, ``path:strength``.
        vae_id: Hub id or folder of a VAE in place of the model's own; None for that.
        vae_revision: Commit of its hub repository; None for a folder, or the model's own.
        embeddings: Textual inversions that the text encoders know, ``path:word``.
    """

    family: Family
    network: Any
    vae: Any
    tokenizers: list[Any]
    text_networks: list[Any]
    scheduler_config: Mapping[str, Any]
    zero_empty_prompts: bool = False
    model_id: str = "in memory"
    revision: str | None = None
    lora: list[str] = field(default_factory=list)
    vae_id: str | None = None
    vae_revision: str | None = None
    embeddings: list[str] = field(default_factory=list)

    @property
    def has_image_condition(self) -> bool:
        """Whether the network reads a second latent beside the noisy one (InstructPix2Pix)."""
        return self.family.num_channels(self.network)[0] == 2 * self.vae.config.latent_channels

    def networks(self) -> dict[str, Any]:
        """The networks that are there, the VAE left out, by the folder of their part."""
        parts = zip(self.family.text_parts, self.text_networks, strict=True)
        return {self.family.network_part: self.network} | {part: net for part, net in parts if net is not None}


class OtherVae(NamedTuple):
    """A VAE in place of a model's own.

    Args:
        name: Folder or hub id; "taesd" is the tiny one that fits the model.
        revision: Branch, tag or commit of a hub id; None for the newest.
    """

    name: str
    revision: str | None = None

    def place(self, family: Family, *, is_offline: bool = False) -> ModelLocation:
        """Where it is.

        Raises:
            ConfigError: If there is none, or it cannot be reached.
        """
        name = family.taesd if self.name == "taesd" else self.name
        return locate(name, VAE, revision=self.revision, is_offline=is_offline)


def load_components(
    location: ModelLocation, options: BackboneOptions, *, vae: OtherVae | None = None, skip_t5: bool = False
) -> Components:
    """Read every part of a model by the libraries' own from_pretrained; arguments as in `load_backbone`.

    Raises:
        ConfigError: If there is no such VAE, or it cannot be fetched.
        SceneFormatError: If the model is broken or of a kind that is not supported.
    """
    index = location.read_json("model_index.json")
    family = _family_of(location, index)
    reader = _Reader(location, index, family)
    network = reader.denoiser(options.network_dtype(family), options.quantization)
    _check_channels(location, *family.num_channels(network))
    other_vae = vae and vae.place(family, is_offline=location.is_offline)
    if other_vae is None:
        autoencoder = reader.network("vae", options.autoencoder_dtype)
    else:
        autoencoder = read_vae(other_vae, options.autoencoder_dtype)
    left_out = family.optional_parts if skip_t5 else ()
    texts = [
        (None, None) if part in left_out else reader.text(part, token_part, options.network_dtype(family))
        for part, token_part in zip(family.text_parts, family.token_parts, strict=True)
    ]
    scheduler_config = location.read_json("scheduler/scheduler_config.json")
    try:
        noise_levels(scheduler_config)
    except ValueError as error:
        raise location.broken(first_line(error), "scheduler") from error
    return Components(
        family=family,
        network=network,
        vae=autoencoder,
        tokenizers=[tokenizer for tokenizer, _ in texts],
        text_networks=[text for _, text in texts],
        scheduler_config=scheduler_config,
        zero_empty_prompts=bool(index.get("force_zeros_for_empty_prompt", False)),
        model_id=location.location,
        revision=location.revision,
        vae_id=other_vae and other_vae.location,
        vae_revision=other_vae and other_vae.revision,
    )


def save_components(components: Components, folder: str | Path) -> None:
    """Write `components` as a folder in diffusers layout, for `load_backbone` and diffusers' pipelines."""
    folder, family = Path(folder), components.family
    parts = {family.network_part: components.network, "vae": components.vae}
    parts |= dict(zip(family.text_parts, components.text_networks, strict=True))
    parts |= dict(zip(family.token_parts, components.tokenizers, strict=True))
    scheduler = dict(components.scheduler_config)
    index: dict[str, Any] = {
        "_class_name": family.pipeline_of(components.network, components.has_image_condition),
        "_diffusers_version": version("diffusers"),
        "scheduler": ["diffusers", scheduler["_class_name"]],
    }
    for name, part in parts.items():
        library = type(part).__module__.split(".")[0]
        index[name] = [None, None] if part is None else [library, type(part).__name__]
        if part is not None:
            with quiet_libraries():
                part.save_pretrained(folder / name)
    index |= family.index_entries(components.zero_empty_prompts)
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    write_json(folder / "model_index.json", index)


def _family_of(location: ModelLocation, index: Mapping[str, Any]) -> Family:
    pipeline = index.get("_class_name")
    family = family_of_pipeline(pipeline)
    if family is None:
        raise SceneFormatError(
            what=f"model '{location.location}' is a {pipeline}, which is not supported",
            expected=f"one of {', '.join(sorted(name for each in FAMILIES.values() for name in each.pipelines))}",
            fix="choose a Stable Diffusion 1.x, 2.x, XL or 3.x model, or InstructPix2Pix",
        )
    return family


def _check_channels(location: ModelLocation, num_read: int, num_written: int) -> None:
    if num_read not in (num_written, 2 * num_written):
        raise SceneFormatError(
            what=f"model '{location.location}' reads {num_read} channels",
            expected=f"{num_written} (text to image) or {2 * num_written} (InstructPix2Pix)",
            fix="choose a text-to-image model, not one for inpainting, depth or upscaling",
        )


@dataclass(frozen=True)
class _Reader:
    """Reads the parts of a model by the classes that its model_index.json names."""

    location: ModelLocation
    index: Mapping[str, Any]
    family: Family

    def network(self, part: str, dtype: torch.dtype) -> Any:
        """A network with all its weights."""
        load = self._class_of(part).from_pretrained
        return self.location.read_network(load, part, dtype=dtype)

    def denoiser(self, dtype: torch.dtype, quantization: str) -> Any:
        """The U-Net or transformer, its weights in fewer bits where that is asked for."""
        part = self.family.network_part
        if is_gguf(quantization):
            read = partial(read_gguf, self._class_of(part), quantization, part=part, dtype=dtype)
            return self.location.read(lambda location, **_: read(config=location), part)
        config = network_config(quantization, dtype)
        quantized = {} if config is None else {"quantization_config": config}
        load = self._class_of(part).from_pretrained
        return self.location.read_network(load, part, dtype=dtype, **quantized)

    def text(self, part: str, token_part: str, dtype: torch.dtype) -> tuple[Any, Any]:
        """One tokenizer and its text network; (None, None) where the model comes without it and may."""
        if part in self.family.optional_parts and not (self.index.get(part) or [None])[0]:
            return None, None
        network = self.network(part, dtype)
        tokenizer = self.location.read(self._class_of(token_part).from_pretrained, token_part)
        if len(tokenizer) < 256:  # the library makes an empty one where the files are missing
            raise self.location.broken("it has no vocabulary", token_part)
        if len(tokenizer) > network.config.vocab_size:
            why = f"it has {len(tokenizer)} tokens, but the text encoder was made for {network.config.vocab_size}"
            raise self.location.broken(why, token_part)
        return tokenizer, network

    def _class_of(self, part: str) -> Any:
        """The class that model_index.json names for a part, looked up in the family and in the library it names."""
        import diffusers
        import transformers

        entry = self.index.get(part)
        library, name = entry if isinstance(entry, list) and len(entry) == 2 else (None, None)
        library, name = (each if isinstance(each, str) else None for each in (library, name))
        libraries: dict[str | None, Any] = {"diffusers": diffusers, "transformers": transformers}
        cls = self.family.classes.get(name) if isinstance(name, str) else None
        if cls is None and name is not None and name in PARTS.get(library, ()):
            cls = getattr(libraries[library], name, None)
        if cls is None:
            why = f"model_index.json says {library}.{name}" if name else "model_index.json lacks it"
            raise self.location.broken(why, part)
        return cls


def read_vae(location: ModelLocation, dtype: torch.dtype) -> Any:
    """A VAE from its own folder or repository, such as TAESD."""
    import diffusers

    name = location.read_json("config.json").get("_class_name")
    if name not in ("AutoencoderKL", "AutoencoderTiny"):
        raise SceneFormatError(
            what=f"vae '{location.location}' is a {name}", expected=location.use.layout, fix=location.use.fix
        )
    return location.read_network(getattr(diffusers, name).from_pretrained, dtype=dtype)
