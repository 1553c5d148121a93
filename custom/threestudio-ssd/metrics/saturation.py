"""Colour saturation: do edits come out more vivid, or greyer, than they should?"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .regions import MaskMode, masked_pair, weighted_mean


def saturation_drift(
    images: Float[Tensor, "b 3 h w"],
    references: Float[Tensor, "b 3 h w"],
    masks: Bool[Tensor, "b h w"] | Float[Tensor, "b h w"] | None = None,
    *,
    mask_mode: MaskMode = "region",
) -> Float[Tensor, " b"]:
    """Mean chroma (largest minus smallest of R, G, B) of the images minus that of the references.

    Args:
        images: Images to be judged, [0, 1].
        references: What they should look like, [0, 1].
        masks: Where to look (1 inside); None is everywhere.
        mask_mode: ``region`` or ``zeroed``, see ``masked_pair``.

    Returns:
        One signed value per image in [-1, 1]: positive is too vivid, 0 is right, NaN for an empty region.

    Raises:
        ValueError: If shapes or ranges do not fit.
    """
    images, references, weights = masked_pair(images, references, masks, mask_mode)
    return weighted_mean(chroma(images) - chroma(references), weights)


def chroma(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
    """Largest minus smallest channel: 0 for greys, 1 for pure colours at full value."""
    low, high = torch.aminmax(images, dim=1)
    return high - low
