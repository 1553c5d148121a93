"""CLIP as the metrics use it: unit feature vectors of images in [0, 1] and of texts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from ..pretrained import ModelUse, frozen, is_embedded, locate
from .regions import check_images, normalised

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

CLIP = ModelUse(key="clip_model")
TINY_LABEL = "tiny-clip (64 px, toy world: its scores compare runs with each other, not with papers)"


@dataclass(frozen=True)
class ClipModel:
    """A CLIP network with its tokenizer and the image preparation of the published 3D-editing protocol.

    Images are resized bicubically, ``align_corners=False``, straight to the network's square (no crop), then
    normalised with OpenAI's mean and deviation, as in Instruct-NeRF2NeRF's metric (Haque et al. 2023).
    """

    network: Any
    tokenizer: Any
    image_size: int
    antialias: bool
    """The published protocol does not; a 64-pixel network needs it to look at a 512-pixel render."""
    label: str
    """Name for tables; says so when the scores are not comparable with published ones."""

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def prepare(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 s s"]:
        """Resize and normalise; no range check, so that the released script's defect can be reproduced."""
        images = images.to(self.device, torch.float32)
        size = (self.image_size, self.image_size)
        if images.shape[-2:] != size:
            images = interpolate(images, size, mode="bicubic", align_corners=False, antialias=self.antialias)
        return normalised(images, OPENAI_MEAN, OPENAI_STD)

    def embed_prepared(self, pixels: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b d"]:
        """Unit features of prepared images."""
        return normalize(self.network.get_image_features(pixel_values=pixels).pooler_output, dim=-1)

    def embed_images(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Unit features of images in [0, 1], any size.

        Raises:
            ValueError: If the images are not (b 3 h w) in [0, 1].
        """
        check_images(images)
        return self.embed_prepared(self.prepare(images))

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        """Unit features of texts, cut at the network's number of tokens."""
        max_length = self.network.config.text_config.max_position_embeddings
        length = {"padding": "max_length", "truncation": True, "max_length": max_length}
        tokens = self.tokenizer(list(texts), **length, return_tensors="pt").to(self.device)
        inputs = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
        return normalize(self.network.get_text_features(**inputs).pooler_output, dim=-1)


@lru_cache(maxsize=2)
def load_clip(
    model: str = "tiny-clip", device: str = "cpu", offline: bool = False, revision: str | None = None
) -> ClipModel:
    """Load a CLIP for the metrics; the last two loaded stay in memory.

    Args:
        model: ``tiny-clip`` (embedded, offline), ``ViT-L/14`` or a hub id such as
            ``openai/clip-vit-large-patch14`` (the published metric), or a local folder.
        device: Where to put it.
        offline: Whether to look only into the local hub cache.
        revision: Branch, tag or commit of a hub id.

    Returns:
        The network in float32, frozen, in evaluation mode.

    Raises:
        ConfigError: If the model cannot be found or loaded.
    """
    return read_clip(model, device, offline, revision)


def clip_beside(diffusion_model: str) -> str:
    """The CLIP that judges a diffusion model's edits: ViT-L/14, but tiny-clip beside an embedded model or none."""
    return "tiny-clip" if not diffusion_model or is_embedded(diffusion_model) else "ViT-L/14"


def check_clip(model: str, offline: bool = False, revision: str | None = None) -> None:
    """Find out whether a CLIP can be loaded later, without its memory: its files are fetched and their heads read.

    Raises:
        ConfigError: If the model cannot be found or loaded.
    """
    read_clip(model, "meta", offline, revision)


def read_clip(model: str, device: str, offline: bool = False, revision: str | None = None) -> ClipModel:
    """As ``load_clip``, for whoever wants to be the only one that holds it; on ``meta`` it has shapes alone."""
    from transformers import AutoTokenizer, CLIPModel

    source = locate(model, CLIP, revision=revision, is_offline=offline)
    placed = "meta" if device == "meta" else None
    network = source.read_network(CLIPModel.from_pretrained, dtype=torch.float32, device_map=placed)
    tokenizer = source.read(AutoTokenizer.from_pretrained)
    settings = Path(source.location) / "preprocessor_config.json"
    antialias = settings.is_file() and bool(json.loads(settings.read_text()).get("antialias", False))
    label = TINY_LABEL if source.location.rstrip("/").endswith("tiny-clip") else source.location
    return ClipModel(frozen(network, device), tokenizer, network.config.vision_config.image_size, antialias, label)


def as_clip(model: str | ClipModel, images: Tensor) -> ClipModel:
    """A loaded CLIP as it is; a name is loaded to where the images are."""
    return model if isinstance(model, ClipModel) else load_clip(model, str(images.device))


def as_texts(prompts: str | Sequence[str], count: int) -> list[str]:
    """One text per image.

    Raises:
        ValueError: If there is neither one text nor one for each image.
    """
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    if len(texts) not in (1, count):
        raise ValueError(f"{len(texts)} prompts for {count} pictures; give one, or one for each")
    return texts
