"""CLIP directional similarity: did the image change in the direction in which the text changed?"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from .clip_model import ClipModel, as_clip, as_texts
from .regions import check_pair

NO_CHANGE = 1e-5
"""Differences of unit features shorter than this are rounding, not a direction."""


def directional_cosine(image_changes: Float[Tensor, "b d"], text_changes: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    """Cosine of two changes; 0 where either is none."""
    changed = (image_changes.norm(dim=-1) > NO_CHANGE) & (text_changes.norm(dim=-1) > NO_CHANGE)
    cosines = (normalize(image_changes, dim=-1) * normalize(text_changes, dim=-1)).sum(-1)
    return torch.where(changed, cosines, torch.zeros_like(cosines))


@torch.no_grad()
def clip_directional_similarity(
    source_images: Float[Tensor, "b 3 h w"],
    edited_images: Float[Tensor, "b 3 h w"],
    source_prompts: str | Sequence[str],
    target_prompts: str | Sequence[str],
    model: str | ClipModel = "tiny-clip",
) -> Float[Tensor, " b"]:
    """cos(E(edited) - E(source), E(target) - E(source prompt)) (Gal et al. 2021, arXiv:2108.00946).

    The features are normalised before they are subtracted, and both images of a pair are of the same camera.

    Args:
        source_images: Images before the edit, [0, 1].
        edited_images: The same views after it, [0, 1].
        source_prompts: What the source shows, as a caption; one for all or one for each.
        target_prompts: What the edit should show, as a caption; one for all or one for each.
        model: A CLIP or its name, see ``load_clip``. The published figures use ``ViT-L/14``.

    Returns:
        One signed value per pair in [-1, 1]; 0 where the images, or the prompts, are equal. Exchanging source
        and edit in both images and texts leaves it unchanged.

    Raises:
        ConfigError: If the model cannot be loaded.
        ValueError: If images or prompts do not fit one another.
    """
    check_pair(edited_images, source_images)
    clip = as_clip(model, edited_images)
    count = len(edited_images)
    image_changes = clip.embed_images(edited_images) - clip.embed_images(source_images)
    sources, targets = as_texts(source_prompts, count), as_texts(target_prompts, count)
    text_changes = clip.embed_texts(targets) - clip.embed_texts(sources)
    return directional_cosine(image_changes, text_changes.expand_as(image_changes))


@torch.no_grad()
def clip_direction_consistency(
    source_images: Float[Tensor, "b 3 h w"],
    edited_images: Float[Tensor, "b 3 h w"],
    model: str | ClipModel = "tiny-clip",
) -> Float[Tensor, " b-1"]:
    """How alike the edit is in neighbouring frames of a path: cos(E_i(edited) - E_i(source), the same at i + 1).

    Args:
        source_images: Frames along a camera path before the edit, [0, 1].
        edited_images: The same frames after it, [0, 1].
        model: A CLIP or its name, see ``load_clip``.

    Returns:
        One signed value per neighbouring pair in [-1, 1] (described by Haque et al. 2023, without code).

    Raises:
        ConfigError: If the model cannot be loaded.
        ValueError: If the images do not fit one another.
    """
    check_pair(edited_images, source_images)
    clip = as_clip(model, edited_images)
    changes = clip.embed_images(edited_images) - clip.embed_images(source_images)
    return directional_cosine(changes[1:], changes[:-1])
