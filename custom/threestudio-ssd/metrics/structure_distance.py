"""Structure distance: does the layout of the image survive the edit? (Tumanyan et al. 2022, arXiv:2201.00424)."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from ..pretrained import ModelUse, frozen, locate
from .clip_model import OPENAI_MEAN, OPENAI_STD
from .regions import check_pair, normalised

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DINO = "facebook/dino-vitb8"
MAX_ASPECT = 480 / 224
"""The longer side is cut to 480 where the shorter one is 224."""


@dataclass(frozen=True)
class StructureModel:
    """A vision transformer whose last block's attention keys are compared."""

    network: Any
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    label: str

    @property
    def last_keys(self) -> nn.Linear:
        """The layer that makes the keys of the last block, block 11 of ViT-B; all heads side by side."""
        layers = [module for name, module in self.network.named_modules() if name.endswith(("k_proj", "key"))]
        return layers[-1]

    def keys(self, images: Float[Tensor, "b 3 h w"], antialias: bool = True) -> Float[Tensor, "b l d"]:
        """Keys of all tokens, the class token first, for images resized and normalised here."""
        caught: list[Any] = []
        handle = self.last_keys.register_forward_hook(lambda module, args, output: caught.append(output))
        try:
            self.network(pixel_values=self._prepare(images, antialias), interpolate_pos_encoding=True)
        finally:
            handle.remove()
        return caught[0]

    def _prepare(self, images: Float[Tensor, "b 3 h w"], antialias: bool = True) -> Float[Tensor, "b 3 h2 w2"]:
        height, width = images.shape[-2:]
        scale = self.image_size / min(height, width)
        limit = round(self.image_size * MAX_ASPECT)
        scale *= min(1.0, limit / (scale * max(height, width)))
        size = (max(1, int(height * scale + 1e-6)), max(1, int(width * scale + 1e-6)))
        images = images.to(next(self.network.parameters()))
        if images.shape[-2:] != size:
            images = interpolate(images, size, mode="bilinear", align_corners=False, antialias=antialias)
        return normalised(images, self.mean, self.std)


@lru_cache(maxsize=2)
def load_structure_model(
    model: str = DINO, device: str = "cpu", offline: bool = False, revision: str | None = None
) -> StructureModel:
    """Load the network of the structure distance; the last two loaded stay in memory.

    Args:
        model: A hub id or local folder of a ViT in the transformers format; the published metric is DINO
            ViT-B/8. ``tiny-clip`` serves offline, and its label says that it is another quantity.
        device: Where to put it.
        offline: Whether to look only into the local hub cache.
        revision: Branch, tag or commit of a hub id.

    Raises:
        ConfigError: If the model cannot be loaded.
    """
    from transformers import AutoModel

    source = locate(model, ModelUse(key="structure_model"), revision=revision, is_offline=offline)
    network = source.read(AutoModel.from_pretrained)
    is_clip = hasattr(network, "vision_model")
    network = frozen(network.vision_model if is_clip else network, device)
    mean, std = (OPENAI_MEAN, OPENAI_STD) if is_clip else (IMAGENET_MEAN, IMAGENET_STD)
    label = "structure distance" if model == DINO else f"self-similarity distance on {model} (not DINO ViT-B/8)"
    return StructureModel(network, network.config.image_size, mean, std, label)


def self_similarity(keys: Float[Tensor, "b l d"]) -> Float[Tensor, "b l l"]:
    """Cosine of every token's key with every other's."""
    keys = normalize(keys, dim=-1)
    return keys @ keys.mT


@torch.no_grad()
def structure_distance(
    images: Float[Tensor, "b 3 h w"],
    references: Float[Tensor, "b 3 h w"],
    model: str | StructureModel = DINO,
    *,
    is_input_0_255: bool = False,
    antialias: bool = True,
) -> Float[Tensor, " b"]:
    """Mean squared difference of the images' key self-similarities; lower keeps more of the layout.

    Args:
        images: Edited images, [0, 1].
        references: Their sources, [0, 1].
        model: What ``load_structure_model`` returned, or a name. The shorter side becomes the network's size
            (224; the longer at most 480), keys of block 11, heads concatenated, class token included.
        is_input_0_255: PIE-Bench's published numbers were made with images that were multiplied by 255 before
            ImageNet's normalisation. True reproduces that; the right definition is False.
        antialias: Whether images that are made smaller are averaged. PIE-Bench's published numbers were made by a
            resize that samples them instead; False reproduces that.

    Returns:
        One value per image, >= 0; 0 where the images are equal. PIE-Bench reports it times 10^3.

    Raises:
        ConfigError: If the model cannot be loaded.
        ValueError: If shapes or ranges do not fit.
    """
    check_pair(images, references)
    network = model if isinstance(model, StructureModel) else load_structure_model(model, str(images.device))
    factor = 255.0 if is_input_0_255 else 1.0
    first, second = (self_similarity(network.keys(stack * factor, antialias)) for stack in (images, references))
    return (first - second).square().mean((1, 2))
