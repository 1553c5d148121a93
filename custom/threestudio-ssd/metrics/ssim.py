"""Structural similarity (Wang et al. 2004, "Image quality assessment: from error visibility to similarity")."""

from jaxtyping import Float
from torch import Tensor

from .blur import gaussian_blur
from .regions import region_metric

WINDOW = 11
SIGMA = 1.5
C1 = 0.01**2
C2 = 0.03**2


def ssim_map(images: Float[Tensor, "b 3 h w"], references: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
    """Structural similarity of the window around every pixel, mean over channels; images are mirrored at the edge."""
    b, _, height, width = images.shape
    if min(height, width) < WINDOW:
        raise ValueError(f"SSIM needs pictures of at least {WINDOW}x{WINDOW} pixels, got {height}x{width}")
    x, y = (stack.double().reshape(b * 3, 1, height, width) for stack in (images, references))
    mean_x, mean_y = gaussian_blur(x, SIGMA, WINDOW), gaussian_blur(y, SIGMA, WINDOW)
    var_x = (gaussian_blur(x * x, SIGMA, WINDOW) - mean_x**2).clamp_min(0)
    var_y = (gaussian_blur(y * y, SIGMA, WINDOW) - mean_y**2).clamp_min(0)
    cov = gaussian_blur(x * y, SIGMA, WINDOW) - mean_x * mean_y
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
