"""What tells a U-Net exactly where an object is seen from: a map of rays, beside its first layer.

Models of several views get such maps as further input channels (CAT3D, Gao et al. 2024, arXiv:2405.10314, section
3.1). Here two convolutions make of them what is added to the output of the first layer, so that the network itself is
one that also works without.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from .view_adapter import waves

SCALES = (1.0, 1.0, 1.0, 3.0, 3.0)
"""Rays that meet an object pass its middle at up to about a third of the cameras' distance."""
WIDTH = 96


class RayMap(nn.Module):
    """What rays add to the output of a U-Net's first layer.

    Its last weights start at zero, so that a new one changes nothing.

    Args:
        unet: A ``UNet2DConditionModel``.
    """

    def __init__(self, unet: Any) -> None:
        super().__init__()
        num_channels = ray_channels(torch.zeros(1, 1, 5), (1, 1)).shape[1]
        self.first = nn.Conv2d(num_channels, WIDTH, 3, padding=1)
        self.last = nn.Conv2d(WIDTH, unet.conv_in.out_channels, 3, padding=1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, channels: Float[Tensor, "b f zh zw"]) -> Float[Tensor, "b c zh zw"]:
        """What is added; see ``ray_channels``."""
        return self.last(silu(self.first(channels)))


def ray_channels(rays: Float[Tensor, "b n 5"], size: tuple[int, int]) -> Float[Tensor, "b f zh zw"]:
    """``ObjectViews.passing`` of so many rows and columns of cells, with sines and cosines of its multiples."""
    return waves(rays * rays.new_tensor(SCALES)).unflatten(1, size).permute(0, 3, 1, 2).contiguous()


@contextmanager
def rays_seen(
    unet: Any, ray_map: RayMap, channels: Float[Tensor, "b f zh zw"], shares: Float[Tensor, "b"] | None = None
) -> Iterator[None]:
    """While entered, a U-Net is told where its views look.

    Args:
        unet: That which the map was built for.
        ray_map: What is beside it.
        channels: Of the views; a batch may hold all of them once for each of some prompts.
        shares: How much each view is told, in [0, 1]; None: all.
    """

    def add(_module: Any, _args: Any, output: Tensor) -> Tensor:
        told = ray_map(channels.to(output))
        told = told if shares is None else told * shares.to(told).view(-1, 1, 1, 1)
        return output + told.repeat(len(output) // len(told), 1, 1, 1)

    handle = unet.conv_in.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()
