"""Cross-attention maps as they are made, by the level of the U-Net that makes them."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from ...diffusion.attention import Layer


class AttentionMaps:
    """Collects the maps of cross-attention on the way down and up; those of the middle are left out, as published."""

    def __init__(self) -> None:
        self._maps: dict[tuple[int, int], dict[str, Tensor]] = {}

    def attend(
        self, layer: Layer, hidden: Float[Tensor, "b n c"], seen: Float[Tensor, "b m d"],
        valued: Float[Tensor, "b m d"] | None = None,
    ) -> Float[Tensor, "b n c"]:  # fmt: skip
        """A layer's attention, whose map is kept.

        Args:
            layer: Which.
            hidden: What asks.
            seen: What keys are made of.
            valued: What values are made of; None: the same.
        """
        q, k, v = layer.project(hidden, seen, seen if valued is None else valued)
        if not layer.is_cross:
            return layer.output(layer.mix(q, k, v))
        weights = layer.weights(q, k)
        self.keep(layer, weights)
        return layer.output(weights.to(v) @ v)

    def keep(self, layer: Layer, weights: Float[Tensor, "*b n m"]) -> None:
        """Keep a map; added to what is kept of the layer already."""
        if not layer.name.startswith("mid_block"):
            level = self._maps.setdefault(layer.size, {})
            level[layer.name] = level[layer.name] + weights if layer.name in level else weights

    def size_nearest(self, cells: int) -> tuple[int, int]:
        """Height and width of the level whose longer side is nearest to so many cells; of two, the finer."""
        return nearest_size(list(self._maps), cells)

    def nearest(self, cells: int) -> list[Float[Tensor, "*b n m"]]:
        """The maps of that level, in the order of the layers."""
        return list(self._maps[self.size_nearest(cells)].values())


def nearest_size(sizes: Sequence[tuple[int, int]], cells: int) -> tuple[int, int]:
    """The size whose longer side is nearest to so many cells; of two, the finer."""
    return min(sizes, key=lambda size: (abs(max(size) - cells), -max(size)))
