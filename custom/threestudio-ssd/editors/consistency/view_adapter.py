"""A view adapter beside the editor's network, trained so that it draws the views of an object together."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ...cameras.rays import ObjectViews
from ...diffusion.attention import Layer
from ...diffusion.view_adapter import ViewAdapter, ViewGeometry, drawn_together, load_view_adapter
from ...early import named
from ..editor import ImageEditor, Views
from .consistency import Consistency, unet_of

NAME = "view-adapter"


@dataclass(frozen=True)
class DrawnTogether(Consistency):
    """Every denoising step of all views at once, with a ``ViewAdapter`` that belongs to the model.

    It is told through which rays the views look. They have to be of one object and have it in their middle, which is
    what ``data.crop: selection`` sees to.
    """

    needs = frozenset({"cameras"})

    adapter: str = "data/tiny-views/adapter.safetensors"
    """File of the adapter's weights."""

    def load(self, network: Any, device: torch.device, **options: Any) -> ViewAdapter:
        """The adapter; see ``Consistency``."""
        return load_view_adapter(named(self.adapter), unet_of(network, NAME), "system.editing.consistency.adapter")

    def edit(self, editor: ImageEditor, network: Any, views: Views, own: ViewAdapter) -> Float[Tensor, "b 3 h w"]:
        """See ``Consistency``."""
        assert views.cameras is not None
        geometry = ViewGeometry([ObjectViews.of(views.cameras)])

        def attend_own(layer: Layer, hidden: Tensor) -> Tensor:
            return layer.attend(hidden, hidden)

        with drawn_together(unet_of(network, NAME), own, geometry, attend_own):
            return editor.edit(network, views)
