"""Any editing pipeline of diffusers: FLUX.2 klein, Kontext, Qwen-Image-Edit, InstructPix2Pix, image to image, ..."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

import threestudio

from ..diffusion.quantization import check_quantization
from ..errors import ConfigError, check_values
from ..images import resized
from ..pretrained import locate
from ..seeds import Stream, generator
from .diffusers_pipeline import (
    FORMS,
    PIPELINE,
    Form,
    Offload,
    PipelineNetwork,
    load_pipeline,
    pipeline_class,
)
from .editor import EditorPrompts, ImageEditor, Views
from .prompted import with_words

KEY = "system.editing.editor"
OF_LOADING = ("pipeline", "offload", "quantization", "network")
"""Fields that say how a pipeline is loaded; the others are arguments of its call."""


@dataclass(frozen=True)
class Pipeline(ImageEditor):
    """An editing pipeline of diffusers, by its class.

    A class with ``strength`` starts from the views as they are; one without starts from noise and reads the views
    before any edit, as InstructPix2Pix does in Instruct-NeRF2NeRF. A class that takes both a start and a reference
    gets both. A class with ``mask_image`` keeps the outside at every step; any other has it put back afterwards.
    """

    pipeline: str = "auto"
    """Class name in diffusers; auto: the one that the model's folder names."""
    num_inference_steps: int | None = None
    """Denoising steps from pure noise, >= 1; null: as the model's authors do."""
    guidance_scale: float | None = None
    """Size of the guidance by the prompt, >= 0; null as above."""
    true_cfg_scale: float | None = None
    """That of classifier-free guidance in models that were distilled with another one, >= 0; null as above."""
    image_guidance_scale: float | None = None
    """Size of the guidance by the image, >= 0; null as above."""
    offload: Offload = "none"
    """What moves to the GPU only when it is needed: none, model (a model at a time), group (some layers ahead of their
    use), sequential (a layer at a time: least memory, slowest)."""
    quantization: str = "none"
    """Weights in fewer bits: none, bnb-8bit, bnb-4bit, torchao-int8, torchao-float8, or the path of a .gguf file."""

    network: str = ""
    """A .safetensors file of the network's weights under the names of their original code, in place of the model's own:
    FLUX and its fine-tuned relatives come as such. The other parts are those of ``model``."""

    def check(self, key: str) -> None:
        """See ``ImageEditor``."""
        steps = self.num_inference_steps
        rules = {"num_inference_steps": (steps is None or steps >= 1, "at least 1")}
        for name in ("guidance_scale", "true_cfg_scale", "image_guidance_scale"):
            value = getattr(self, name)
            rules[name] = (value is None or value >= 0, "at least 0")
        check_values(key, self, Pipeline(), rules)
        check_quantization(self.quantization, f"{key}.quantization")
        if self.network and not (self.network.endswith(".safetensors") and Path(self.network).is_file()):
            what, fix = f"{key}.network is {self.network}", f"correct the path, or leave {key}.network out"
            raise ConfigError(what=what, expected="a .safetensors file", fix=fix)
        if self.network and self.quantization != "none":
            what, fix = f"{key}.network with {key}.quantization={self.quantization}", f"leave {key}.quantization out"
            raise ConfigError(what=what, expected="one of the two", fix=fix)

    def reads_instruction_of(self, keys: Any) -> bool:
        """See ``ImageEditor``; the class decides."""
        location = locate(keys.model, PIPELINE, revision=keys.revision, is_offline=keys.offline)
        return FORMS.get(pipeline_class(location, self.pipeline, f"{KEY}.pipeline").__name__, Form()).reads_instruction

    def load(
        self, keys: Any, device: torch.device, prompts: EditorPrompts, words: Sequence[str] = ()
    ) -> PipelineNetwork:
        """See ``ImageEditor``."""
        network = load_pipeline(
            keys, device, prompts, words, name=self.pipeline, offload=self.offload, quantization=self.quantization,
            single_file=self.network, key=KEY,
        )  # fmt: skip
        for name in self._settings:
            if name not in network.arguments:
                what = f"{KEY}.{name} is {getattr(self, name)}, and {network.name} takes none"
                raise ConfigError(what=what, expected="it left out", fix=f"remove {KEY}.{name}")
        if "strength" not in network.arguments:
            threestudio.info(f"{network.name} takes no strength: each of its edits starts from noise.")
        return network

    @property
    def _settings(self) -> dict[str, Any]:
        """The arguments of the call that were set."""
        names = [each.name for each in fields(self) if each.name not in OF_LOADING]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def edit(self, network: PipelineNetwork, views: Views) -> Float[Tensor, "b 3 h w"]:
        """See ``ImageEditor``."""
        count = len(views) if network.form.is_batched else 1
        groups = [views[slice(start, start + count)] for start in range(0, len(views), count)]
        edited = torch.cat([self._edit_group(network, group) for group in groups])
        return resized(edited, views.images.shape[-2:]).to(views.images)

    def _edit_group(self, network: PipelineNetwork, views: Views) -> Float[Tensor, "b 3 h2 w2"]:
        """One call of the pipeline; the sizes are its own."""
        form, sides = network.form, fitting_sides(views.images.shape[-2:], network.size_multiple, network.form.min_side)
        height, width = sides
        start = views.images if views.masks is None else views.surroundings.lerp(views.images, views.masks)
        has_strength = "strength" in network.arguments
        given: dict[str, Any] = {
            "image": _handed(start if has_strength else views.sources, sides, form),
            "image_reference": _handed(views.sources, sides, form),
            "mask_image": _handed(_masks_of(views), sides, form),
            "strength": views.strength,
            "height": height,
            "width": width,
            "max_area": height * width,
            "generator": [generator(seed, views.round, Stream.EDITOR) for seed in views.seeds],
            "output_type": "pt",
            **form.usual,
            **self._settings,
            **network.prompt_arguments(_texts(network.prompts.target, views)),
        }
        if has_strength and (steps := given.get("num_inference_steps", _usual_steps(network))):
            given["num_inference_steps"] = max(steps, math.ceil(1 / views.strength))  # one step of them is made
        given = {name: value for name, value in given.items() if name in network.arguments}
        images = network.pipeline(**given).images
        return torch.as_tensor(images).float()


def fitting_sides(sides: Sequence[int], multiple: int, least: int) -> tuple[int, int]:
    """Height and width that a pipeline takes, the nearest of the same aspect.

    Args:
        sides: Height and width of the views, pixels.
        multiple: Of which sides are multiples.
        least: What a side is at least.
    """
    scale = max(1.0, least / min(sides))
    height, width = (max(multiple, round(side * scale / multiple) * multiple) for side in sides)
    return height, width


def _texts(target: str, views: Views) -> list[str]:
    words = views.words or [""] * len(views)
    return [with_words(target, word) for word in words]


def _masks_of(views: Views) -> Float[Tensor, "b 1 h w"]:
    """The masks; all white without any."""
    return torch.ones_like(views.images[:, :1]) if views.masks is None else views.masks


def _handed(images: Float[Tensor, "b c h w"], sides: tuple[int, int], form: Form) -> Any:
    """Images or masks in the form that a pipeline takes them."""
    images = resized(images, sides).cpu()
    if not form.takes_pil:
        return images
    pixels = (images[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    return Image.fromarray(pixels if len(images[0]) == 3 else pixels[..., 0])


def _usual_steps(network: PipelineNetwork) -> int:
    """The class's own number of steps."""
    import inspect

    parameters: Mapping[str, Any] = inspect.signature(type(network.pipeline).__call__).parameters
    return parameters["num_inference_steps"].default
