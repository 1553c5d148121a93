"""Peak signal-to-noise ratio."""

from .mse import mse
from .regions import Images, MaskMode, Masks, OneEach

IDENTICAL_PSNR = 100.0
"""Reported in place of infinity, dB, where nothing differs: JSON knows no infinity, and a mean would be lost."""


def psnr(images: Images, references: Images, masks: Masks = None, *, mask_mode: MaskMode = "region") -> OneEach:
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


def mean_psnr(images: Images, references: Images, masks: Masks = None) -> float:
    """Mean over the images, dB; one that differs nowhere counts as ``IDENTICAL_PSNR``."""
    return float(psnr(images, references, masks).clamp(max=IDENTICAL_PSNR).mean())
