"""Gaussian blur: what a metric sees when small details are not to count."""

import math
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad


def gaussian_blur(
    images: Float[Tensor, "b d h w"], sigma: float, window: int | None = None
) -> Float[Tensor, "b d h w"]:
    """Blur every channel; images are mirrored at the edge.

    Args:
        images: Images, or maps of any meaning.
        sigma: Standard deviation of the kernel, pixels, > 0.
        window: Side of the kernel, pixels, odd; None takes three standard deviations to either side.
    """
    return _Blur.apply(images, sigma, window)


def gaussian_blur_back(
    gradients: Float[Tensor, "b d h w"], sigma: float, window: int | None = None
) -> Float[Tensor, "b d h w"]:
    """The way back through ``gaussian_blur``: its transpose. Arguments are those of it."""
    kernel = _kernel(sigma, window)
    half = len(kernel) // 2
    whole = _filtered(pad(gradients, (half,) * 4), kernel, is_mirrored=False)
    return _mirrored_back(_mirrored_back(whole, half, -2), half, -1)


class _Blur(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, sigma: float, window: int | None) -> Tensor:
        ctx.sigma, ctx.window = sigma, window
        return _filtered(images, _kernel(sigma, window), is_mirrored=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gaussian_blur_back(gradients[0], ctx.sigma, ctx.window), None, None


def _kernel(sigma: float, window: int | None) -> tuple[float, ...]:
    half = round(3 * sigma) if window is None else window // 2
    weights = [math.exp(-(offset**2) / (2 * sigma**2)) for offset in range(-half, half + 1)]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def _filtered(images: Tensor, kernel: tuple[float, ...], *, is_mirrored: bool) -> Tensor:
    """Weighted sums along both axes; beyond the edge images are mirrored, or zero. OpenCV makes them on a CPU."""
    if images.device.type == "cpu" and images.dtype in (torch.float32, torch.float64):
        weights, border = np.array(kernel), cv2.BORDER_REFLECT_101 if is_mirrored else cv2.BORDER_CONSTANT
        pixels = images.detach().permute(0, 2, 3, 1).contiguous().numpy()
        sums = [cv2.sepFilter2D(image, -1, weights, weights, borderType=border) for image in pixels]
        return torch.from_numpy(np.stack(sums).reshape(pixels.shape)).permute(0, 3, 1, 2)
    return _shifted_sums(images, kernel, is_mirrored=is_mirrored)


def _shifted_sums(images: Tensor, kernel: tuple[float, ...], *, is_mirrored: bool) -> Tensor:
    """The same on any device, by sums of shifted images: quicker than convolutions of one channel."""
    padded = pad(images, (len(kernel) // 2,) * 4, mode="reflect" if is_mirrored else "constant")
    return _across(_across(padded, kernel, -2), kernel, -1)


def _across(images: Tensor, kernel: tuple[float, ...], dim: int) -> Tensor:
    """Weighted sums along one axis, as far as the kernel lies inside; the kernel reads the same from both ends."""
    count = images.shape[dim] - len(kernel) + 1
    total = images.narrow(dim, 0, count) * kernel[0]
    for start, weight in enumerate(kernel[1:], 1):
        total.add_(images.narrow(dim, start, count), alpha=weight)
    return total


def _mirrored_back(gradient: Tensor, half: int, dim: int) -> Tensor:
    """What came from mirrored edges, added where they were taken from: the way back through padding."""
    count = gradient.shape[dim] - 2 * half
    inner = gradient.narrow(dim, half, count).clone()
    if half:
        inner.narrow(dim, 1, half).add_(gradient.narrow(dim, 0, half).flip(dim))
        inner.narrow(dim, count - 1 - half, half).add_(gradient.narrow(dim, half + count, half).flip(dim))
    return inner
