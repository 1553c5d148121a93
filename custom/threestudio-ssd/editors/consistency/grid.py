"""Several views as one image: the network's own attention makes them agree (as in RL3DEdit, Instruct-4DGS, Tex4D)."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..editor import ImageEditor, Views
from .consistency import Consistency

PER_VIEW = ("images", "sources", "masks", "kept", "depths")


@dataclass(frozen=True)
class Grid(Consistency):
    """n x n views in the cells of one image, edited as one; neighbours on the orbit are spread over the images.

    The image is n times as large along each side as a view, so that nothing is lost; a network that was trained on
    images of one view's size may do worse on it. Words of single views are left out.
    """

    side: int = 2
    """n, >= 1."""

    def edit(self, editor: ImageEditor, network: Any, views: Views, own: Any) -> Float[Tensor, "b 3 h w"]:
        """See ``Consistency``; a last image that is not full is filled up with views from the beginning."""
        cells = self.side**2
        count = math.ceil(len(views) / cells)
        order = torch.arange(count * cells).view(cells, count).T.reshape(-1) % len(views)
        spread = views[order]
        tiled: dict[str, Any] = {
            name: None if value is None else self.tile(value)
            for name, value in ((name, getattr(spread, name)) for name in PER_VIEW)
        }
        prompts = None if spread.prompts is None else list(spread.prompts)[::cells]
        grids = replace(
            spread, **tiled, seeds=list(spread.seeds)[::cells], cameras=None, names=None, words=None, prompts=prompts
        )
        cut = self.cut(editor.edit(network, grids))
        return torch.zeros_like(views.images).index_copy_(0, order.to(cut.device), cut)

    def tile(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b2 c h2 w2"]:
        """Every n x n images as one."""
        n, (_, channels, height, width) = self.side, images.shape
        cells = images.view(-1, n, n, channels, height, width)
        return cells.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, n * height, n * width)

    def cut(self, images: Float[Tensor, "b2 c h2 w2"]) -> Float[Tensor, "b c h w"]:
        """Inverse of ``tile``."""
        n, (_, channels, height, width) = self.side, images.shape
        cells = images.view(-1, channels, n, height // n, n, width // n)
        return cells.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, height // n, width // n)
