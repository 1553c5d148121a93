"""A radiance field of a running edit: the selected nodes as parameters, the rest as they were."""

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..fields import RadianceField
from .editable import EditableScene

OPEN = -30.0
"""Raw density of a node as far as others may rely on it to hide what lies behind: nothing."""


class EditableField(EditableScene):
    """A field of which only the selected nodes are parameters; nodes stay where they are."""

    source: RadianceField

    @property
    def num_fixed(self) -> int:
        """How many nodes are never touched."""
        return len(self.source) - len(self)

    def current(self) -> RadianceField:
        """The selected nodes as they are shown now, with gradient."""
        return self.source.like(self.source.lattice.select(self.rows), **self.current_values())

    def scene(self) -> RadianceField:
        """All nodes in the order of the source; gradients flow to the selection."""
        values = self.current_values()
        whole = {
            name: tensor.index_copy(0, self.rows, values[name]) for name, tensor in self.source.parameters().items()
        }
        return self.source.replace(**whole)

    def are_moving(self) -> Bool[Tensor, "n"]:
        """The selection."""
        return self.is_selected

    def result(self) -> RadianceField:
        """All nodes, as they are shown now."""
        return self.scene().detach()

    def result_selection(self) -> Bool[Tensor, "n"]:
        """The selection."""
        return self.is_selected

    def result_rows(self) -> Int[Tensor, "n"]:
        """Each node is itself."""
        return torch.arange(len(self.source), device=self.rows.device)


def for_editing(field: RadianceField, is_selected: Bool[Tensor, "n"], density_rate: Any) -> RadianceField:
    """The field with room for the samples of its views, from which those are left out that never show.

    Args:
        field: Where the edit runs.
        is_selected: Which nodes may change.
        density_rate: Learning rate of their densities; where it is 0, they hide what lies behind them for good.
    """
    opaque = field.raw_densities
    if density_rate != 0:
        opaque = torch.where(is_selected, torch.full_like(opaque, OPEN), opaque)
    return field.keeping_samples(opaque)
