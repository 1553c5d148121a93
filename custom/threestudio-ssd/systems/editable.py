"""The Gaussians of a running edit: the selection as parameters, the rest as it was."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..gaussians import Gaussians
from ..gaussians.model import FIELD_NAMES


class EditableGaussians(nn.Module):
    """A scene of which only the selected Gaussians are parameters; the others are never touched.

    Args:
        source: The scene before the edit.
        is_selected: Which Gaussians may change.
    """

    def __init__(self, source: Gaussians, is_selected: Bool[Tensor, "n"]) -> None:
        super().__init__()
        self.source, self.is_selected = source, is_selected
        self.rows = is_selected.nonzero()[:, 0]
        self._fixed = source.select(~is_selected)
        chosen = source.select(is_selected)
        self.selected = nn.ParameterDict({name: nn.Parameter(t.clone()) for name, t in chosen.parameters().items()})
        self._start = {name: tensor.clone() for name, tensor in chosen.parameters().items()}

    def scene(self) -> Gaussians:
        """All Gaussians, fixed ones first, for rendering; gradients flow to the selection."""
        joined = {name: torch.cat([getattr(self._fixed, name), self.selected[name]]) for name in FIELD_NAMES}
        return Gaussians(**joined)

    @torch.no_grad()
    def result(self) -> Gaussians:
        """All Gaussians in the order of the source, with its file's bookkeeping."""
        fields = {name: getattr(self.source, name).clone() for name in FIELD_NAMES}
        for name, tensor in fields.items():
            tensor[self.rows] = self.selected[name].detach()
        return self.source.replace(**fields)

    def drift(self, name: str) -> Float[Tensor, ""]:
        """Mean squared change of one attribute over the selection, in the units it is optimised in."""
        return (self.selected[name] - self._start[name]).pow(2).mean()

    def is_finite(self) -> bool:
        """Whether every parameter is finite."""
        return all(bool(torch.isfinite(parameter).all()) for parameter in self.selected.values())

    def _apply(self, function, recurse: bool = True):
        super()._apply(function, recurse)
        self._fixed = self._fixed._map(function)
        self.source = self.source._map(function)
        self._start = {name: function(tensor) for name, tensor in self._start.items()}
        self.rows, self.is_selected = function(self.rows), function(self.is_selected)
        return self
