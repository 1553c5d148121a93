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

from .light_field import LightField, cell_means
from .waves import num_waves, waves

OFFSET_SCALE = 3.0
"""Rays that meet an object pass its middle at up to about a third of the cameras' distance."""
OCTAVES = 3
WIDTH = 96


class RayMap(nn.Module):
    """What rays add to the output of a U-Net's first layer.

    Two convolutions read the rays, and one what a ``LightField`` takes the view for. The field is trained for itself,
    so no gradient reaches it from here. The last weights start at zero, so that a new map changes nothing.

    Args:
        unet: A ``UNet2DConditionModel``.
    """

    def __init__(self, unet: Any) -> None:
        super().__init__()
        num_latents, num_added = unet.config.out_channels, unet.conv_in.out_channels
        num_sources = unet.config.in_channels - num_latents
        self.first = nn.Conv2d(num_waves(5, OCTAVES), WIDTH, 3, padding=1)
        self.last = nn.Conv2d(WIDTH, num_added, 3, padding=1)
        self.field = LightField(num_latents, num_sources, unet.config.cross_attention_dim)
        self.seen = nn.Conv2d(num_latents, num_added, 3, padding=1)
        for parameter in (*self.last.parameters(), *self.seen.parameters()):
            nn.init.zeros_(parameter)

    def forward(
        self,
        rays: Float[Tensor, "b 8 rh rw"],
        sources: Float[Tensor, "b s zh zw"],
        embeds: Float[Tensor, "b l w"],
        light: Float[Tensor, "b 3"] | None = None,
    ) -> Float[Tensor, "b c zh zw"]:
        """What is added; see ``LightField.forward``."""
        with torch.no_grad():
            seen = self.field(rays, sources, embeds, light).latents
        rays = cell_means(rays)
        ways = torch.cat([rays[:, :3], OFFSET_SCALE * rays[:, 6:]], dim=1)
        read = waves(ways.movedim(1, -1), OCTAVES).movedim(-1, 1).contiguous().to(sources)
        return self.last(silu(self.first(read))) + self.seen(seen)


@contextmanager
def rays_seen(
    unet: Any,
    ray_map: RayMap,
    rays: Float[Tensor, "b 8 rh rw"],
    shares: Float[Tensor, "b"] | None = None,
    light: Float[Tensor, "b 3"] | None = None,
) -> Iterator[None]:
    """While entered, a U-Net is told where its views look.

    Only the first rows of a batch are told, one for each view. Those that follow are the same views with no prompt,
    which guidance leads away from: it leads towards the rays as well then. What the views are told is the same at each
    noise level, so without gradients it is worked out once for all of them.

    Args:
        unet: That which the map was built for.
        ray_map: What is beside it.
        rays: ``ObjectViews.passing`` of the views, as a ``LightField`` takes them.
        shares: How much each view is told, in [0, 1]; None: all.
        light: See ``LightField.forward``.
    """
    embeds: Tensor
    last: tuple[Tensor, Tensor, Tensor] | None = None

    def listen(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal embeds
        embeds = (kwargs["encoder_hidden_states"] if "encoder_hidden_states" in kwargs else args[2])[: len(rays)]

    def told(sources: Tensor) -> Tensor:
        said = ray_map(rays.to(sources.device), sources, embeds, light)
        return said if shares is None else said * shares.to(said).view(-1, 1, 1, 1)

    def add(_module: Any, args: tuple[Tensor], output: Tensor) -> Tensor:
        nonlocal last
        sources = args[0][: len(rays), unet.config.out_channels :]
        is_kept = not torch.is_grad_enabled()
        if last is None or not (is_kept and torch.equal(last[0], sources) and torch.equal(last[1], embeds)):
            last = sources.clone(), embeds, told(sources)
        return torch.cat([output[: len(rays)] + last[2], output[len(rays) :]])

    handles = unet.register_forward_pre_hook(listen, with_kwargs=True), unet.conv_in.register_forward_hook(add)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
