"""Structural similarity (Wang et al. 2004, "Image quality assessment: from error visibility to similarity")."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pad

from .regions import region_metric

WINDOW = 11
SIGMA = 1.5
C1 = 0.01**2
C2 = 0.03**2


def _blur(channels: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    offsets = torch.arange(WINDOW, device=channels.device, dtype=channels.dtype) - WINDOW // 2
    kernel = torch.exp(-offsets.square() / (2 * SIGMA**2))
    kernel = kernel / kernel.sum()
    channels = pad(channels, (WINDOW // 2,) * 4, mode="reflect")
    return conv2d(conv2d(channels, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))


def ssim_map(images: Float[Tensor, "b 3 h w"], references: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
    """Structural similarity of the window around every pixel, mean over channels; images are mirrored at the edge."""
    b, _, height, width = images.shape
    if min(height, width) < WINDOW:
        raise ValueError(f"SSIM needs pictures of at least {WINDOW}x{WINDOW} pixels, got {height}x{width}")
    x, y = (stack.double().reshape(b * 3, 1, height, width) for stack in (images, references))
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = (_blur(x * x) - mean_x**2).clamp_min(0)
    var_y = (_blur(y * y) - mean_y**2).clamp_min(0)
    cov = _blur(x * y) - mean_x * mean_y
    numerator = (2 * mean_x * mean_y + C1) * (2 * cov + C2)
    denominator = (mean_x**2 + mean_y**2 + C1) * (var_x + var_y + C2)
    return (numerator / denominator).reshape(b, 3, *mean_x.shape[-2:]).mean(1).to(images.dtype)


@region_metric
def ssim(images: Float[Tensor, "b 3 h w"], references: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
    """Structural similarity per image: 11x11 Gaussian window, sigma 1.5, data range 1; higher is closer.

    The mean runs over all pixels with mirrored edges, as torchmetrics and therefore PIE-Bench have it. Arguments as in
    ``RegionMetric``; images have at least 11x11 pixels, and under masks the windows centred there count. Values lie
    in [-1, 1], 1 where the images are equal.
    """
    return ssim_map(images, references)
