"""The two CLIP figures of a 3D edit over many views, by the correct protocol or by the released script's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from .clip_directional_similarity import clip_directional_similarity, directional_cosine
from .clip_model import ClipModel, as_clip, as_texts
from .clip_similarity import clip_similarity
from .regions import check_images, check_pair

Protocol = Literal["paired-views", "ssd-released-script"]

RELEASED_SCRIPT_NOTE = (
    "ssd-released-script: reproduces the defects of the released metric script (pictures enter CLIP as 0-255 and "
    "transposed; source and edited views are drawn separately, so pairs are different views; absolute cosines are "
    "averaged). For comparison with the paper's Table 1 only; it does not measure the edit."
)
PAIRED_NOTE = "paired-views: same camera for both pictures of a pair, [0, 1] input, signed mean over the views"


@dataclass(frozen=True)
class ClipScores:
    """The two figures of an edit, with the words that must stand beside them."""

    similarity: float
    directional_similarity: float
    num_views: int
    protocol: Protocol
    model: str
    note: str


@torch.no_grad()
def clip_scores(
    source_images: Float[Tensor, "c 3 h w"],
    edited_images: Float[Tensor, "c 3 h w"],
    source_prompt: str,
    target_prompt: str,
    model: str | ClipModel = "tiny-clip",
    *,
    protocol: Protocol = "paired-views",
    num_views: int | None = None,
    generator: torch.Generator | None = None,
) -> ClipScores:
    """Mean CLIP similarity and directional similarity over views (Zhu et al. 2025, section 5.1: 20 random poses).

    Args:
        source_images: Renders before the edit, [0, 1].
        edited_images: Renders after it, [0, 1]; for ``paired-views`` at the same cameras, in the same order.
        source_prompt: Caption of the source.
        target_prompt: Caption of the wanted edit.
        model: A CLIP or its name, see ``load_clip``.
        protocol: ``paired-views`` is the metric. ``ssd-released-script`` is what the paper's released script
            computes instead; its note says what is wrong with it.
        num_views: How many views to use; None uses all. Only the released script draws them at random.
        generator: Decides the released script's two separate draws.

    Returns:
        Both means and the note.

    Raises:
        ConfigError: If the model cannot be loaded.
        ValueError: If the images do not fit, or the protocol is unknown.
    """
    clip = as_clip(model, edited_images)
    if protocol == "paired-views":
        check_pair(edited_images, source_images)
        source_images, edited_images = source_images[:num_views], edited_images[:num_views]
        similarity = clip_similarity(edited_images, target_prompt, clip)
        directional = clip_directional_similarity(source_images, edited_images, source_prompt, target_prompt, clip)
        note = PAIRED_NOTE
    elif protocol == "ssd-released-script":
        sources = _released_script_features(source_images, clip, num_views, generator)
        edits = _released_script_features(edited_images, clip, num_views, generator)
        source_text, target_text = clip.embed_texts([source_prompt, target_prompt])
        similarity = (edits @ target_text).abs()
        text_change = (target_text - source_text).expand_as(edits)
        directional = directional_cosine(edits - sources, text_change).abs()
        note = RELEASED_SCRIPT_NOTE
    else:
        raise ValueError(f"protocol must be 'paired-views' or 'ssd-released-script', got {protocol!r}")
    return ClipScores(float(similarity.mean()), float(directional.mean()), len(similarity), protocol, clip.label, note)


def _released_script_features(
    images: Float[Tensor, "c 3 h w"], clip: ClipModel, num_views: int | None, generator: torch.Generator | None
) -> Float[Tensor, "v d"]:
    """Features as the released script makes them: a draw of its own, 0-255, width and height exchanged."""
    check_images(images)
    draw = torch.randperm(len(images), generator=generator)[:num_views]
    return clip.embed_prepared(clip.prepare(images[draw.to(images.device)].mT * 255))


def edited_region_similarity(
    images: Float[Tensor, "b 3 h w"], masks: Tensor, prompts: str | Sequence[str], model: str | ClipModel = "tiny-clip"
) -> Float[Tensor, " b"]:
    """CLIP similarity of the edited region alone: black outside the mask, the same full prompt (PIE-Bench).

    Args:
        images: Images in [0, 1].
        masks: (b h w), 1 inside the region.
        prompts: The target text, one for all or one for each.
        model: A CLIP or its name.

    Returns:
        Cosines per image; NaN where the region is empty.
    """
    masks = masks.to(images)
    values = clip_similarity(images * masks[:, None], as_texts(prompts, len(images)), model)
    return torch.where(masks.flatten(1).any(1), values, torch.full_like(values, torch.nan))
