"""Mean squared error."""

from jaxtyping import Bool, Float
from torch import Tensor

from .regions import MaskMode, masked_pair, weighted_mean


def mse(
    images: Float[Tensor, "b 3 h w"],
    references: Float[Tensor, "b 3 h w"],
    masks: Bool[Tensor, "b h w"] | Float[Tensor, "b h w"] | None = None,
    *,
    mask_mode: MaskMode = "region",
) -> Float[Tensor, " b"]:
    """Mean squared error per image, over pixels and channels; lower is closer.

    Args:
        images: Images to be judged, [0, 1].
        references: What they are compared with, [0, 1].
        masks: Where to look (1 inside); None is everywhere. An edit's background is ``~object_masks``.
        mask_mode: ``region`` or PIE-Bench's ``zeroed``, see ``masked_pair``.

    Returns:
        One value per image in [0, 1]; NaN for an empty region. PIE-Bench reports it times 10^4.

    Raises:
        ValueError: If shapes or ranges do not fit.
    """
    images, references, weights = masked_pair(images, references, masks, mask_mode)
    return weighted_mean((images - references).square().mean(1), weights)
