"""One noise for all views."""

from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..editor import ImageEditor, Views
from .consistency import Consistency


@dataclass(frozen=True)
class SharedNoise(Consistency):
    """Every view gets the noise of the first: what the noise decides is then at the same place of each image."""

    def edit(self, editor: ImageEditor, network: Any, views: Views, own: Any) -> Float[Tensor, "b 3 h w"]:
        """See ``Consistency``."""
        return editor.edit(network, replace(views, seeds=[views.seeds[0]] * len(views)))
