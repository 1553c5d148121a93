"""Structural similarity (Wang et al. 2004, "Image quality assessment: from error visibility to similarity")."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from .blur import gaussian_blur, gaussian_blur_back
from .regions import region_metric

WINDOW = 11
SIGMA = 1.5
C1 = 0.01**2
C2 = 0.03**2


def ssim_map(
    images: Float[Tensor, "b 3 h w"], references: Float[Tensor, "b 3 h w"], dtype: torch.dtype = torch.float64
) -> Float[Tensor, "b 3 h w"]:
    """Structural similarity of the window around every pixel, by channel; images are mirrored at the edge.

    Args:
        images: In [0, 1].
        references: In [0, 1]; they get no gradient.
        dtype: What it is computed in. A loss needs no more than float32, which is three times as quick.
    """
    b, _, height, width = images.shape
    if min(height, width) < WINDOW:
        raise ValueError(f"SSIM needs pictures of at least {WINDOW}x{WINDOW} pixels, got {height}x{width}")
    return _SsimMap.apply(images.to(dtype), references.detach().to(dtype)).to(images.dtype)


class _SsimMap(torch.autograd.Function):
    """SSIM of every channel, its gradient in closed form: no graph of a dozen steps is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        moments = gaussian_blur(torch.cat([x, y, x * x, y * y, x * y]), SIGMA, WINDOW)
        mean_x, mean_y, square_x, square_y, product = moments.chunk(5)
        var_x, var_y = (square_x - mean_x**2).clamp_min(0), (square_y - mean_y**2).clamp_min(0)
        luminance, structure = 2 * mean_x * mean_y + C1, 2 * (product - mean_x * mean_y) + C2
        brightness, contrast = mean_x**2 + mean_y**2 + C1, var_x + var_y + C2
        scale = 1 / (brightness * contrast)
        ssim = luminance * structure * scale
        ctx.save_for_backward(x, y, mean_x, mean_y, luminance, structure, brightness, contrast, scale, ssim)
        return ssim

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Each map is a function of three blurred ones, of x, x squared and xy; the references are given."""
        x, y, mean_x, mean_y, luminance, structure, brightness, contrast, scale, ssim = ctx.saved_tensors
        of_product = 2 * luminance * scale
        of_square = -ssim / contrast
        of_mean = 2 * mean_y * (structure - luminance) * scale - 2 * mean_x * (ssim / brightness + of_square)
        (gradient,) = gradients
        maps = torch.cat([gradient * each for each in (of_mean, of_square, of_product)])
        back_mean, back_square, back_product = gaussian_blur_back(maps, SIGMA, WINDOW).chunk(3)
        return back_mean + 2 * x * back_square + y * back_product, None


@region_metric
def ssim(images: Float[Tensor, "b 3 h w"], references: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
    """Structural similarity per image: 11x11 Gaussian window, sigma 1.5, data range 1; higher is closer.

    The mean runs over all pixels with mirrored edges, as torchmetrics and therefore PIE-Bench have it. Arguments as in
    ``RegionMetric``; images have at least 11x11 pixels, and under masks the windows centred there count. Values lie
    in [-1, 1], 1 where the images are equal.
    """
    return ssim_map(images, references).mean(1)
