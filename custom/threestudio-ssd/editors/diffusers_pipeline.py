"""A pipeline of diffusers as an editor computes with it: loaded, quantised, offloaded, its prompts embedded."""

import gc
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch

from ..diffusion import Counters, ModelKeys
from ..diffusion.lora import Lora
from ..diffusion.precision import choose_dtype
from ..diffusion.quantization import backend_of, check_quantization, is_gguf, read_gguf, require
from ..errors import ConfigError
from ..pretrained import ModelLocation, ModelUse, locate
from .editor import EditorNetwork, EditorPrompts
from .prompted import with_words

PIPELINE = ModelUse(
    key="system.editing.model",
    expected="a folder or hub id of a pipeline of diffusers, such as black-forest-labs/FLUX.2-klein-4B",
    layout="a pipeline of diffusers (model_index.json beside the folders of its parts)",
    probe="model_index.json",
    convert="convert it with diffusers (from_single_file, save_pretrained) and ",
)
AUTO = ("AutoPipelineForImage2Image", "AutoPipelineForInpainting")
"""Names in whose place diffusers puts the class that fits the model."""
Offload = Literal["none", "model", "sequential", "group"]
UNREAD_KEYS = (
    "vae", "vae_revision", "vae_dtype", "skip_t5", "channels_last", "vae_checkpointing", "freeu", "embeddings",
    "quantization", "offload",
)  # fmt: skip
"""Keys of ``ModelKeys`` that are those of our own backbone alone; some are the editor's own as well."""


@dataclass(frozen=True)
class Form:
    """What has to be known of a class of pipelines beyond the signature of its call.

    Attributes:
        reads_instruction: Whether its prompt is an instruction.
        is_batched: Whether each row of a call has an image of its own; others take several images as references of one.
        takes_pil: Whether images have to be PIL images; others take tensors in [0, 1].
        min_side: Pixels that a side has at least.
        usual: Arguments of the call that its model's authors give, where the class has another default.
        packages: What it needs beside diffusers and transformers.
    """

    reads_instruction: bool = False
    is_batched: bool = False
    takes_pil: bool = False
    min_side: int = 1
    usual: Mapping[str, Any] = field(default_factory=dict)
    packages: tuple[str, ...] = ()


FORMS = {
    "Flux2KleinPipeline": Form(
        True, takes_pil=True, min_side=64, usual={"num_inference_steps": 4, "guidance_scale": 1.0}
    ),
    "Flux2KleinInpaintPipeline": Form(
        True, takes_pil=True, min_side=64, usual={"num_inference_steps": 4, "guidance_scale": 1.0}
    ),
    "FluxKontextPipeline": Form(True, True, usual={"guidance_scale": 2.5, "_auto_resize": False}),
    "FluxKontextInpaintPipeline": Form(True, True, usual={"guidance_scale": 2.5, "_auto_resize": False}),
    "QwenImageEditPlusPipeline": Form(
        True, takes_pil=True, usual={"num_inference_steps": 40}, packages=("torchvision",)
    ),
    "QwenImageEditPipeline": Form(True, takes_pil=True, packages=("torchvision",)),
    "QwenImageEditInpaintPipeline": Form(True, takes_pil=True, packages=("torchvision",)),
    "DreamLitePipeline": Form(True, takes_pil=True, packages=("torchvision",)),
    "DreamLiteMobilePipeline": Form(True, takes_pil=True, packages=("torchvision",)),
    "StableDiffusionInstructPix2PixPipeline": Form(True, True, usual={"num_inference_steps": 20}),
    "StableDiffusionXLInstructPix2PixPipeline": Form(True, True, usual={"num_inference_steps": 20}),
    "ZImageImg2ImgPipeline": Form(False, True, usual={"num_inference_steps": 9, "guidance_scale": 0.0}),
    "StableDiffusionImg2ImgPipeline": Form(False, True),
    "StableDiffusionXLImg2ImgPipeline": Form(False, True),
    "StableDiffusion3Img2ImgPipeline": Form(False, True),
}
"""By class name. Classes that are not listed read a description, and get one view a call."""


class PipelineNetwork(EditorNetwork):
    """A loaded pipeline, its prompts embedded where it takes embeddings, its text encoders then freed.

    Args:
        pipeline: Of diffusers.
        location: Where it came from.
        prompts: Of the edit.
        words: Everything that ``Views.words`` may say.
        facts: What else a report says of it.
    """

    def __init__(
        self, pipeline: Any, location: ModelLocation, prompts: EditorPrompts, words: Sequence[str],
        facts: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.pipeline, self.location, self.prompts, self._facts = pipeline, location, prompts, facts
        self.name = type(pipeline).__name__
        self.form = FORMS.get(self.name, Form())
        self.arguments = call_arguments(type(pipeline))
        self.counters = Counters()
        self.size_multiple = int(pipeline.image_processor.config.vae_scale_factor)
        self.image_size = _native_size(pipeline)
        self._embeds: dict[str, dict[str, Any]] = {}
        network_of(pipeline).register_forward_pre_hook(self._count, with_kwargs=True)
        if can_embed(pipeline):
            texts = [each.negative for each in prompts.all]
            texts += [with_words(each.target, word) for each in prompts.all for word in ("", *words)]
            self._embeds = {text: _embedded(pipeline, text) for text in dict.fromkeys(texts)}
            self.counters.prompts = len(self._embeds)
            free_text_encoders(pipeline)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Which model, as which class."""
        return {
            "model": self.location.location, "revision": self.location.revision, "pipeline": self.name, **self._facts,
        }  # fmt: skip

    def prompt_arguments(self, texts: Sequence[str]) -> dict[str, Any]:
        """What the call is given of the prompts, one text for each row: embeddings, or the texts themselves."""
        if not self._embeds:
            given = {"prompt": list(texts), "negative_prompt": [self.prompts.negative or " "] * len(texts)}
            if not self.form.is_batched:
                given = {name: values[0] for name, values in given.items()}
            return {name: value for name, value in given.items() if name in self.arguments}
        positive = _rows([self._embeds[text] for text in texts])
        negative = _rows([self._embeds[self.prompts.negative]] * len(texts))
        both = positive | {f"negative_{name}": value for name, value in negative.items()}
        return {name: value for name, value in both.items() if name in self.arguments}

    def _count(self, module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        first = args[0] if args else next(kwargs[name] for name in ("hidden_states", "sample", "x") if name in kwargs)
        self.counters.network_calls += 1
        self.counters.rows += len(first)


def pipeline_class(location: ModelLocation, name: str, key: str) -> Any:
    """The class that loads a pipeline.

    Args:
        location: The model.
        name: ``auto``, or a class of diffusers.
        key: Of the name, for messages.

    Raises:
        ConfigError: If diffusers has no such class, or it edits no image.
    """
    import diffusers

    index = location.read_json("model_index.json")
    check_parts(location, index)
    asked = index.get("_class_name") if name == "auto" else name
    cls = getattr(diffusers, str(asked), None)
    is_pipeline = isinstance(cls, type) and (asked in AUTO or issubclass(cls, diffusers.DiffusionPipeline))
    if cls is None or not is_pipeline:
        raise ConfigError(
            what=f"{key if name != 'auto' else PIPELINE.key} asks for {asked}, which diffusers "
            f"{diffusers.__version__} does not have",
            expected=f"one of {', '.join([*FORMS, *AUTO])}, or another class that edits images",
            fix="install the version of diffusers that has it, or choose another",
        )  # fmt: skip
    if asked in AUTO or "image" in call_arguments(cls):
        return cls
    if name == "auto":
        return diffusers.AutoPipelineForImage2Image
    what, fix = f"{key} is {name}, which takes no image", f"set {key}=auto"
    raise ConfigError(what=what, expected="a class that edits images", fix=fix)


LIBRARIES = ("diffusers", "transformers")
"""Whose classes a model's folder may name for its parts, beside those of the pipelines of diffusers."""


def check_parts(location: ModelLocation, index: Mapping[str, Any]) -> None:
    """Refuse a folder whose parts are of another library, which would be imported, or of no class of these.

    Args:
        location: The model.
        index: Contents of its ``model_index.json``.

    Raises:
        ConfigError: For the first such part.
    """
    import diffusers

    for part, entry in index.items():
        if part.startswith("_") or not isinstance(entry, list) or len(entry) != 2 or entry == [None, None]:
            continue
        is_named = isinstance(entry[0], str) and isinstance(entry[1], str)
        if is_named and (entry[0] in LIBRARIES or hasattr(diffusers.pipelines, entry[0])):
            continue
        raise location.broken(f"model_index.json says {entry[0]}.{entry[1]}", part)


def load_pipeline(
    keys: Any, device: torch.device, prompts: EditorPrompts, words: Sequence[str], *, name: str, offload: Offload,
    quantization: str, key: str, single_file: str = "",
) -> PipelineNetwork:  # fmt: skip
    """Load a pipeline for an edit.

    Args:
        keys: ``ModelKeys``.
        device: Where it runs.
        prompts: Of the edit.
        words: Everything that ``Views.words`` may say.
        name: ``auto``, or a class of diffusers.
        offload: What moves to the device only when it is needed: nothing, a model at a time, a layer at a time, or
            groups of layers ahead of their use.
        quantization: A key of ``QUANTIZATIONS``, or a .gguf file of the network's weights.
        key: Where the editor's fields stand in the config, for messages.
        single_file: A file of the network's weights under their original names; empty for the model's own.

    Raises:
        ConfigError: If a key does not suit pipelines, or the model cannot be read.
        MissingPackageError: If the quantisation's package is not installed.
    """
    _refuse_unread(keys)
    check_quantization(quantization, f"{key}.quantization")
    if offload != "none" and device.type == "cpu":
        what, fix = f"{key}.offload is {offload}, and there is no GPU to offload from", f"set {key}.offload=none"
        raise ConfigError(what=what, expected="none on a CPU", fix=fix)
    location = locate(keys.model, PIPELINE, revision=keys.revision, is_offline=keys.offline, variant=keys.variant)
    cls, index = pipeline_class(location, name, f"{key}.pipeline"), location.read_json("model_index.json")
    require(FORMS.get(cls.__name__, Form()).packages, cls.__name__)
    dtype = choose_dtype(keys.dtype, device, torch.bfloat16 if "transformer" in index else torch.float16)
    options = quantized(quantization, index, location, dtype)
    network_part = next((part for part in ("transformer", "unet") if part in index), None)
    if single_file and network_part is not None:
        read = partial(_class_of(index, network_part).from_single_file, single_file)
        options[network_part] = location.read(
            lambda place, **_: read(config=place, subfolder=network_part, dtype=dtype), network_part
        )
    if (variant := keys.variant or location.only_variant(network_part)) is not None:
        options["variant"] = variant
    pipeline = location.read(cls.from_pretrained, dtype=dtype, **options)
    pipeline.set_progress_bar_config(disable=True)
    adapt(pipeline, keys)
    if can_embed(pipeline):
        for part in text_encoders(pipeline).values():
            if not getattr(part, "is_loaded_in_8bit", False):  # those are on the GPU, and refuse to be moved
                part.to(device)
    elif offload == "none":
        pipeline.to(device)
    facts = {
        "dtype": str(dtype).removeprefix("torch."), "quantization": quantization, "offload": offload,
        "lora": list(keys.lora), "network": single_file or None,
    }  # fmt: skip
    network = PipelineNetwork(pipeline, location, prompts, words, facts)
    place(pipeline, device, offload)
    if keys.compile or keys.cuda_graphs:
        network_of(pipeline).compile(mode="reduce-overhead" if keys.cuda_graphs else None)
    return network


def place(pipeline: Any, device: torch.device, offload: Offload) -> None:
    """Put what is left of a pipeline on the device, or have it moved there when it is needed."""
    if offload == "none":
        pipeline.to(device)
    elif offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.enable_group_offload(
            onload_device=device, offload_type="block_level", num_blocks_per_group=1, use_stream=True
        )


def quantized(
    quantization: str, index: Mapping[str, Any], location: ModelLocation, dtype: torch.dtype
) -> dict[str, Any]:
    """What ``from_pretrained`` is given for a quantisation: the network and large text encoders get it.

    Args:
        quantization: A key of ``QUANTIZATIONS``, or a .gguf file, which holds the network alone.
        index: The model's ``model_index.json``.
        location: The model.
        dtype: What is computed in.
    """
    import diffusers

    if quantization == "none":
        return {}
    network = next(part for part in ("transformer", "unet") if part in index)
    if is_gguf(quantization):
        return {network: read_gguf(_class_of(index, network), quantization, location.location, network, dtype)}
    texts = [name for name, kind in index.items() if name.startswith("text_encoder") and "CLIP" not in str(kind[1])]
    backend, arguments = backend_of(quantization, dtype)
    config = diffusers.PipelineQuantizationConfig(
        quant_backend=backend, quant_kwargs=arguments, components_to_quantize=[network, *texts]
    )
    return {"quantization_config": config}


def _class_of(index: Mapping[str, Any], part: str) -> Any:
    """The class of diffusers that a model's index names for a part."""
    import diffusers

    return getattr(diffusers, index[part][1])


def call_arguments(cls: type) -> frozenset[str]:
    """Names of what a class's call takes."""
    return frozenset(inspect.signature(cls.__call__).parameters)


def network_of(pipeline: Any) -> Any:
    """The network that denoises."""
    return getattr(pipeline, "transformer", None) or pipeline.unet


def text_encoders(pipeline: Any) -> dict[str, torch.nn.Module]:
    """Those that a pipeline has, by name."""
    names = ("text_encoder", "text_encoder_2", "text_encoder_3")
    parts = {name: getattr(pipeline, name, None) for name in names}
    return {name: part for name, part in parts.items() if part is not None}


def can_embed(pipeline: Any) -> bool:
    """Whether prompts can be embedded once for all views: not where the text encoder also looks at the image."""
    encode = _encode_of(pipeline)
    takes_embeds = {"prompt_embeds", "negative_prompt_embeds"} <= call_arguments(type(pipeline))
    return encode is not None and takes_embeds and "image" not in inspect.signature(encode).parameters


def free_text_encoders(pipeline: Any) -> None:
    """Give the memory of the text encoders back."""
    for name in text_encoders(pipeline):
        setattr(pipeline, name, None)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _encode_of(pipeline: Any) -> Any:
    return getattr(pipeline, "encode_prompt", None) or getattr(pipeline, "_encode_prompt", None)


@torch.no_grad()
def _embedded(pipeline: Any, text: str) -> dict[str, Any]:
    """The embeddings of one prompt, by the names that the call has for them."""
    encode = _encode_of(pipeline)
    device = next(iter(text_encoders(pipeline).values())).device
    options = {"device": device, "num_images_per_prompt": 1, "do_classifier_free_guidance": False, "prompt_2": None}
    options |= {"prompt_3": None}
    accepted = inspect.signature(encode).parameters
    returned = encode([text], **{name: value for name, value in options.items() if name in accepted})
    parts: tuple[Any, ...] = returned if isinstance(returned, tuple) else (returned,)
    embeds, arguments = {"prompt_embeds": parts[0]}, call_arguments(type(pipeline))
    if "pooled_prompt_embeds" in arguments:  # positive and negative of both kinds, or positive ones and token ids
        embeds["pooled_prompt_embeds"] = parts[2 if len(parts) == 4 else 1]
    elif "prompt_embeds_mask" in arguments:
        embeds["prompt_embeds_mask"] = parts[1]
    return embeds


def _rows(embeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Embeddings of several prompts as rows of one call."""
    rows = {}
    for name, first in embeds[0].items():
        parts = [each[name] for each in embeds]
        if isinstance(first, list):
            rows[name] = [entry for part in parts for entry in part]
        else:
            rows[name] = None if first is None else torch.cat(parts)
    return rows


def _native_size(pipeline: Any) -> int:
    """Side in pixels that a pipeline makes images of."""
    cells = getattr(pipeline, "default_sample_size", None) or network_of(pipeline).config.get("sample_size")
    return cells * pipeline.vae_scale_factor if isinstance(cells, int) else 1024


def _refuse_unread(keys: Any) -> None:
    usual = ModelKeys()
    for name in UNREAD_KEYS:
        value, default = getattr(keys, name), getattr(usual, name)
        if value != default:
            text = str(default).replace("None", "null").replace("False", "false")
            raise ConfigError(
                what=f"system.editing.{name} is {value}, which the editor pipeline does not read",
                expected=f"{text}" if name != "freeu" else "no freeu", fix=f"leave system.editing.{name} out",
            )  # fmt: skip


def adapt(pipeline: Any, keys: Any) -> None:
    """LoRAs and tiles."""
    loras = [Lora.of(value) for value in keys.lora]
    for number, lora in enumerate(loras):
        pipeline.load_lora_weights(lora.path, adapter_name=f"lora{number}")
    if loras:
        names = [f"lora{number}" for number in range(len(loras))]
        pipeline.set_adapters(names, adapter_weights=[lora.strength for lora in loras])
    if keys.vae_tiling:
        pipeline.vae.enable_tiling()
