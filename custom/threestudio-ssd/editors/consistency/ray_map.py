"""A map of rays beside the editor's network, which tells it exactly where each view sees the object from."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from ...cameras.rays import ObjectViews
from ...diffusion.beside import load_beside
from ...diffusion.light_field import Seen, grid_of_rays
from ...diffusion.prompts import PromptEmbeds
from ...diffusion.ray_map import RayMap, rays_seen
from ...early import named
from ...errors import check_values
from ..editor import ImageEditor, Views
from ..prompted import PromptedBackbone
from .consistency import Consistency, unet_of

NAME = "ray-map"
FORGOTTEN = 0.9
"""An edit of this strength or more keeps next to nothing of what a view shows now."""
SHARPNESS = 2.0
"""The light field is unsure where exactly an outline runs, over pixels; objects end within one. Its logits are
multiplied with this."""


@dataclass(frozen=True)
class RaysSeen(Consistency):
    """Each view by itself, by a model that knows the object's place, size and side to the point.

    Words say a side in sectors and a size hardly at all, so that views differ by what is left open; with the rays
    nothing is. The rays are those of the frame that a refit gives the new object: its foot where the old one stood, its
    front where ``view_words.front_deg`` says.

    The map's light field says by itself what the views show, and where the object is in them. An edit that
    forgets what a view shows now starts from there, and the U-Net only touches it up. Where the light comes from, the
    field is told by all views together.
    """

    needs = frozenset({"cameras", "frame"})

    file: str = "data/tiny-ip2p/ray_map.safetensors"
    """Weights of a ``RayMap`` that was trained with the model."""
    draft: float = 0.1
    """Strength that an edit of ``FORGOTTEN`` or more has instead, from what the light field says, in [0, 1]; 0: it has
    its own strength, and starts from what the view shows now."""

    def load(self, network: Any, device: torch.device, **options: Any) -> RayMap:
        """The map; see ``Consistency``."""
        check_values("system.editing.consistency", self, RaysSeen, {"draft": (0 <= self.draft <= 1, "from 0 to 1")})
        unet = unet_of(network, NAME)
        return load_beside(RayMap(unet), named(self.file), unet, "system.editing.consistency.file")

    def edit(self, editor: ImageEditor, network: Any, views: Views, own: RayMap) -> Float[Tensor, "b 3 h w"]:
        """See ``Consistency``."""
        sources = network.backbone.encode_condition(views.sources) if _num_sources(network) else None
        rays = _rays(network, views)
        light = _light(rays, own, sources)
        if self._is_drafted(views):
            draft = network.backbone.decode(_said(network, views, own, network.target(views), sources, light).latents)
            views = replace(views, images=draft, strength=self.draft)
        with rays_seen(unet_of(network, NAME), own, rays, light=light):
            return editor.edit(network, views)

    def covered(self, network: Any, views: Views, own: RayMap) -> Float[Tensor, "b 1 h w"] | None:
        """What the light field says, of views that start from it; see ``Consistency``.

        Without the view before the edit: what the old object covers there misleads it about the new one's outline.
        """
        return _outlines(network, views, own, network.target(views)) if self._is_drafted(views) else None

    def drawn(self, network: Any, views: Views, own: RayMap) -> Float[Tensor, "b 1 h w"] | None:
        """What the light field says without the view before the edit, which shows how large the object is."""
        return _outlines(network, views, own, network.source(views)) if network.prompts.source else None

    def _is_drafted(self, views: Views) -> bool:
        return self.draft > 0 and views.strength >= FORGOTTEN


def _rays(network: PromptedBackbone, views: Views) -> Float[Tensor, "b 8 rh rw"]:
    assert views.cameras is not None
    assert views.frame is not None
    return ObjectViews(views.cameras, views.frame).passing(grid_of_rays(_cells(network, views)))


def _cells(network: PromptedBackbone, views: Views) -> tuple[int, int]:
    """Rows and columns of the latents of a view."""
    height, width = views.images.shape[-2:]
    return height // network.backbone.downscale, width // network.backbone.downscale


def _num_sources(network: PromptedBackbone) -> int:
    """Channels of the view before the edit that the network reads."""
    config = network.backbone.network.config
    return config.in_channels - config.out_channels


@torch.no_grad()
def _said(
    network: PromptedBackbone, views: Views, own: RayMap, prompts: PromptEmbeds,
    sources: Float[Tensor, "b s zh zw"] | None = None, light: Float[Tensor, "b 3"] | None = None,
) -> Seen:  # fmt: skip
    """What the light field takes the views for; ``sources`` None: without the views before the edit."""
    rays, dtype = _rays(network, views).to(prompts.hidden.device), own.field.last.weight.dtype
    if sources is None:
        sources = rays.new_zeros(len(rays), _num_sources(network), *_cells(network, views))
    return own.field(rays, sources.to(dtype), prompts.hidden.to(dtype), light)


@torch.no_grad()
def _light(
    rays: Float[Tensor, "b 8 rh rw"], own: RayMap, sources: Float[Tensor, "b s zh zw"] | None
) -> Float[Tensor, "b 3"] | None:
    """Where the light comes from, the same for all views: no single one shows all sides of the object before."""
    if sources is None:
        return None
    lights = own.field.light_of(rays.to(sources.device), sources.to(own.field.last.weight.dtype))
    return normalize(lights.mean(0, keepdim=True), dim=-1).expand(len(lights), -1)


def _outlines(network: PromptedBackbone, views: Views, own: RayMap, prompts: PromptEmbeds) -> Float[Tensor, "b 1 h w"]:
    """How much of each pixel the object makes up by words and rays alone."""
    covered = _said(network, views, own, prompts).covered.float().mul(SHARPNESS).sigmoid()
    return interpolate(covered, views.images.shape[-2:], mode="bilinear", antialias=True)
