"""What every image metric shares: the check of its input, and what a mask means."""

from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MaskMode = Literal["region", "zeroed"]

Images = Float[Tensor, "b 3 h w"]
Masks = Bool[Tensor, "b h w"] | Float[Tensor, "b h w"] | None
"""1 (or True) where a metric looks; None looks everywhere. Outside an object: ``~object_masks``."""
OneEach = Float[Tensor, " b"]
"""One value per image."""

INSIDE_COVERAGE, OUTSIDE_COVERAGE = 0.5, 0.02
"""A pixel is inside an edit's region when what may change makes up more than the first share of it, outside when it
makes up less than the second."""

RANGE_TOLERANCE = 1e-3
"""How far beyond [0, 1] a value may lie before it is taken for an image in another range."""


def check_images(images: Tensor, name: str = "images") -> None:
    """Refuse images that are not (b 3 h w) in [0, 1].

    Args:
        images: Images as a user hands them in.
        name: What the message calls them.

    Raises:
        ValueError: If the shape, the type or the range is another one; 0-255 images are the usual case.
    """
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise ValueError(f"{name} must be (b, 3, h, w) and not empty, got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise ValueError(f"{name} must be float in [0, 1], got {images.dtype}; divide by 255")
    low, high = images.detach().aminmax()
    if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
        raise ValueError(f"{name} must lie in [0, 1], got {low:.4g} to {high:.4g}; clamp, or divide by 255")


def check_pair(images: Tensor, references: Tensor) -> None:
    """Refuse a pair of image stacks that cannot be compared pixel by pixel.

    Raises:
        ValueError: If one of them is not (b 3 h w) in [0, 1], or their shapes differ.
    """
    check_images(images, "images")
    check_images(references, "references")
    if images.shape != references.shape:
        raise ValueError(f"images and references differ in shape: {tuple(images.shape)}, {tuple(references.shape)}")


def masked_pair(
    images: Images, references: Images, masks: Masks, mask_mode: MaskMode = "region"
) -> tuple[Images, Images, Float[Tensor, "b h w"]]:
    """The two images as a metric sees them under a mask, and the weight of each pixel in its mean.

    Args:
        images: Images to be judged, [0, 1].
        references: What they are compared with, [0, 1].
        masks: 1 (or True) where the metric looks; None looks everywhere.
        mask_mode: ``region`` hides differences elsewhere (the image takes the reference's pixels there) and
            averages over the masked pixels alone. ``zeroed`` is PIE-Bench's definition (Ju et al. 2024,
            arXiv:2310.01506): both images are multiplied by the mask and the mean runs over all pixels.

    Returns:
        Images, references and weights.

    Raises:
        ValueError: If the images or masks do not fit one another.
    """
    check_pair(images, references)
    weights = torch.ones_like(images[:, 0])
    if masks is None:
        return images, references, weights
    if masks.shape != weights.shape:
        raise ValueError(f"masks must be (b, h, w) = {tuple(weights.shape)}, got {tuple(masks.shape)}")
    masks = masks.to(images)
    if mask_mode == "zeroed":
        return images * masks[:, None], references * masks[:, None], weights
    if mask_mode == "region":
        return torch.where(masks[:, None] > 0, images, references), references, masks
    raise ValueError(f"mask_mode must be 'region' or 'zeroed', got {mask_mode!r}")


def normalised(images: Images, mean: Sequence[float], std: Sequence[float]) -> Images:
    """What a network takes: mean and deviation of the pixels it was trained on, taken out channel by channel."""
    shift, scale = (images.new_tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    return (images - shift) / scale


def weighted_mean(values: Float[Tensor, "b h w"], weights: Float[Tensor, "b h w"]) -> OneEach:
    """Mean of a map per image; NaN where no pixel has weight, so that an empty region is never a score."""
    return (values * weights).sum((1, 2)) / weights.sum((1, 2))


def edit_regions(shares: Float[Tensor, "c h w"]) -> tuple[Bool[Tensor, "c h w"], Bool[Tensor, "c h w"]]:
    """The pixels inside the region of an edit, and those outside; those between, on its outline, are neither.

    Args:
        shares: How much of each pixel is made up of what may change, in [0, 1], see ``rendering.coverage``.
    """
    return shares > INSIDE_COVERAGE, shares < OUTSIDE_COVERAGE


@runtime_checkable
class RegionMetric(Protocol):
    """A metric that is the mean of a map of differences, everywhere or under masks."""

    def __call__(
        self, images: Images, references: Images, masks: Masks = None, *, mask_mode: MaskMode = "region"
    ) -> OneEach:
        """Compare images.

        Args:
            images: Images to be judged, [0, 1].
            references: What they are compared with, [0, 1].
            masks: Where to look (1 inside); None is everywhere. An edit's background is ``~object_masks``.
            mask_mode: ``region`` or PIE-Bench's ``zeroed``, see ``masked_pair``.

        Returns:
            One value per image; NaN for an empty region.

        Raises:
            ValueError: If shapes or ranges do not fit.
        """
        ...


def region_metric(difference_map: Callable[[Tensor, Tensor], Tensor]) -> RegionMetric:
    """The metric whose value is the mean of ``difference_map(images, references)`` (b h w); it keeps name and text."""

    def metric(images: Images, references: Images, masks: Masks = None, *, mask_mode: MaskMode = "region") -> OneEach:
        images, references, weights = masked_pair(images, references, masks, mask_mode)
        return weighted_mean(difference_map(images, references), weights)

    names = ("__module__", "__name__", "__qualname__", "__doc__")
    update_wrapper(metric, difference_map, assigned=names, updated=())
    del metric.__wrapped__  # help() shows the metric's own signature
    return metric
