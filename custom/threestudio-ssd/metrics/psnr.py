"""Peak signal-to-noise ratio."""

from jaxtyping import Bool, Float
from torch import Tensor

from .mse import mse
from .regions import MaskMode

IDENTICAL_PSNR = 100.0
"""Reported in place of infinity, dB, where nothing differs: JSON knows no infinity, and a mean would be lost."""


def psnr(
    images: Float[Tensor, "b 3 h w"],
    references: Float[Tensor, "b 3 h w"],
    masks: Bool[Tensor, "b h w"] | Float[Tensor, "b h w"] | None = None,
    *,
    mask_mode: MaskMode = "region",
) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio per image for a peak of 1, -10 log10(MSE) in dB; higher is closer.

    Args:
        images: Images to be judged, [0, 1].
        references: What they are compared with, [0, 1].
        masks: Where to look (1 inside); None is everywhere. Outside an object: pass ``~object_masks``.
        mask_mode: ``region`` or PIE-Bench's ``zeroed``, see ``masked_pair``.

    Returns:
        One value per image, dB; infinite where the images are equal, NaN for an empty region.

    Raises:
        ValueError: If shapes or ranges do not fit.
    """
    return -10 * mse(images, references, masks, mask_mode=mask_mode).log10()
