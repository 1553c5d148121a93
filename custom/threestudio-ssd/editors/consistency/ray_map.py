"""A map of rays beside the editor's network, which tells it exactly where each view sees the object from."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ...cameras.rays import ObjectViews
from ...diffusion.beside import load_beside
from ...diffusion.ray_map import RayMap, rays_seen
from ...early import named
from ..editor import ImageEditor, Views
from .consistency import Consistency, unet_of

NAME = "ray-map"


@dataclass(frozen=True)
class RaysSeen(Consistency):
    """Each view by itself, by a model that knows the object's place, size and side to the point.

    Words say a side in sectors and a size hardly at all, so that views differ by what is left open; with the rays
    nothing is. The rays are those of the frame that a refit gives the new object: its foot where the old one stood, its
    front where ``view_words.front_deg`` says.
    """

    needs = frozenset({"cameras", "frame"})
    sees_all_views = False

    file: str = "data/tiny-ip2p/ray_map.safetensors"
    """Weights of a ``RayMap`` that was trained with the model."""

    def load(self, network: Any, device: torch.device, **options: Any) -> RayMap:
        """The map; see ``Consistency``."""
        unet = unet_of(network, NAME)
        return load_beside(RayMap(unet), named(self.file), unet, "system.editing.consistency.file")

    def edit(self, editor: ImageEditor, network: Any, views: Views, own: RayMap) -> Float[Tensor, "b 3 h w"]:
        """See ``Consistency``."""
        assert views.cameras is not None
        assert views.frame is not None
        rows, columns = (side // network.backbone.downscale for side in views.images.shape[-2:])
        rays = ObjectViews(views.cameras, views.frame).passing((rows, columns))
        with rays_seen(unet_of(network, NAME), own, rays):
            return editor.edit(network, views)
