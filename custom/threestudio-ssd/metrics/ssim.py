"""Structural similarity (Wang et al. 2004, "Image quality assessment: from error visibility to similarity")."""

import torch
from jaxtyping import Float
from torch import Tensor

from .blur import gaussian_blur
from .regions import region_metric

WINDOW = 11
SIGMA = 1.5
C1 = 0.01**2
C2 = 0.03**2


def ssim_map(
    images: Float[Tensor, "b 3 h w"], references: Float[Tensor, "b 3 h w"], dtype: torch.dtype = torch.float64
) -> Float[Tensor, "b h w"]:
    """Structural similarity of the window around every pixel, mean over channels; images are mirrored at the edge.

    Args:
        images: In [0, 1].
        references: In [0, 1].
        dtype: What it is computed in. A loss needs no more than float32, which is three times as quick.
    """
    b, _, height, width = images.shape
    if min(height, width) < WINDOW:
        raise ValueError(f"SSIM needs pictures of at least {WINDOW}x{WINDOW} pixels, got {height}x{width}")
    x, y = images.to(dtype), references.to(dtype)
    mean_x, square_x, product = gaussian_blur(torch.cat([x, x * x, x * y]), SIGMA, WINDOW).chunk(3)
    mean_y, square_y = gaussian_blur(torch.cat([y, y * y]), SIGMA, WINDOW).chunk(2)
    var_x, var_y = (square_x - mean_x**2).clamp_min(0), (square_y - mean_y**2).clamp_min(0)
    numerator = (2 * mean_x * mean_y + C1) * (2 * (product - mean_x * mean_y) + C2)
    denominator = (mean_x**2 + mean_y**2 + C1) * (var_x + var_y + C2)
    return (numerator / denominator).mean(1).to(images.dtype)


@region_metric
def ssim(images: Float[Tensor, "b 3 h w"], references: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
    """Structural similarity per image: 11x11 Gaussian window, sigma 1.5, data range 1; higher is closer.

    The mean runs over all pixels with mirrored edges, as torchmetrics and therefore PIE-Bench have it. Arguments as in
    ``RegionMetric``; images have at least 11x11 pixels, and under masks the windows centred there count. Values lie
    in [-1, 1], 1 where the images are equal.
    """
    return ssim_map(images, references)
