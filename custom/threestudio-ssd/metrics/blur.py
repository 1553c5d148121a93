"""Gaussian blur: what a metric sees when small details are not to count."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pad


def gaussian_blur(
    images: Float[Tensor, "b d h w"], sigma: float, window: int | None = None
) -> Float[Tensor, "b d h w"]:
    """Blur every channel; images are mirrored at the edge.

    Args:
        images: Images, or maps of any meaning.
        sigma: Standard deviation of the kernel, pixels, > 0.
        window: Side of the kernel, pixels, odd; None takes three standard deviations to either side.
    """
    half = round(3 * sigma) if window is None else window // 2
    offsets = torch.arange(-half, half + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    b, d, h, w = images.shape
    channels = pad(images.reshape(b * d, 1, h, w), (half,) * 4, mode="reflect")
    return conv2d(conv2d(channels, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1)).reshape(b, d, h, w)
