"""From masks in pictures to a selection of Gaussians, by visible weight."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..cameras import Cameras
from ..gaussians import Gaussians
from ..rendering import render

MIN_VISIBLE_WEIGHT = 1e-3
"""Pixels' worth of weight below which a Gaussian counts as never seen."""


def visible_weights(
    gaussians: Gaussians, cameras: Cameras, masks: Float[Tensor, "c h w"]
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """Each Gaussian's weight under the masks and its weight in all, summed over views, in pixels.

    A render is linear in colour, so the gradient of sum(mask * render) with respect to a Gaussian's colour is the sum
    of its blending weights alpha * T under the mask: front-weighted, from any rasteriser, both sums in one pass.

    Args:
        gaussians: The scene.
        cameras: Views, all of the masks' size.
        masks: In [0, 1].
    """
    masked, total = gaussians.means.new_zeros(2, len(gaussians))
    fixed = gaussians.detach()
    for index in range(len(cameras)):
        colors = torch.zeros(len(gaussians), 2, device=fixed.device, requires_grad=True)
        images, _ = render(fixed, cameras[index], torch.zeros(2), colors)
        mask = masks[index].to(images)
        (images[0, ..., 0] * mask).sum().add(images[0, ..., 1].sum()).backward()
        masked += colors.grad[:, 0]
        total += colors.grad[:, 1]
    return masked, total


def trace(
    gaussians: Gaussians, cameras: Cameras, masks: Float[Tensor, "c h w"], threshold: float = 0.5
) -> Bool[Tensor, "n"]:
    """The Gaussians more than ``threshold`` of whose visible weight lies under the masks; unseen ones are left out."""
    masked, total = visible_weights(gaussians, cameras, masks)
    return (masked > threshold * total) & (total > MIN_VISIBLE_WEIGHT)
