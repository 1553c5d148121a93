"""A scene of which some rows are parameters: what Gaussians and radiance fields have in common under an edit."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..gaussians import held_drift
from ..scenes import Scene
from .bounded_colors import bounded_sh0, following_shN


class EditableScene(nn.Module, ABC):
    """A scene of which only the selected rows are parameters; the others are never touched.

    Every row of the selection knows the row of the source it stems from, its generation, and its anchor: the parameters
    it is held to, those of the source or of the last growth.

    Args:
        source: The scene before the edit.
        is_selected: Which rows may change.
        is_bounded: Whether colours are shown bounded, and view-dependent ones follow (``bounded_colors``).
    """

    source: Any
    rows: Int[Tensor, "m"]
    generations: Int[Tensor, "m"]
    grad_sums: Float[Tensor, "m"]
    grad_counts: Float[Tensor, "m"]

    def __init__(self, source: Scene, is_selected: Bool[Tensor, "n"], is_bounded: bool = False) -> None:
        super().__init__()
        self.source, self.is_selected, self.is_bounded = source, is_selected, is_bounded
        chosen = {name: tensor[is_selected] for name, tensor in source.parameters().items()}
        self.selected = nn.ParameterDict({name: nn.Parameter(tensor.clone()) for name, tensor in chosen.items()})
        self.register_buffer("rows", is_selected.nonzero()[:, 0])
        self.register_buffer("generations", torch.zeros(len(self.rows), dtype=torch.int64, device=source.device))
        for name in ("grad_sums", "grad_counts"):
            self.register_buffer(name, torch.zeros(len(self.rows), device=source.device))
        for name, tensor in chosen.items():
            self.register_buffer(f"anchor_{name}", tensor.clone())

    def __len__(self) -> int:
        return len(self.rows)

    @property
    @abstractmethod
    def num_fixed(self) -> int:
        """How many rows are never touched."""

    @abstractmethod
    def current(self) -> Any:
        """The selection as it is shown now, with gradient."""

    @abstractmethod
    def scene(self) -> Any:
        """The whole scene, for rendering; gradients flow to the selection."""

    @abstractmethod
    def are_moving(self) -> Bool[Tensor, "n2"]:
        """Which rows of ``scene`` may change."""

    @abstractmethod
    def result(self) -> Any:
        """The whole scene, for its file."""

    @abstractmethod
    def result_selection(self) -> Bool[Tensor, "n2"]:
        """Which rows of ``result`` the edit could change."""

    @abstractmethod
    def result_rows(self) -> Int[Tensor, "n2"]:
        """Which row of the source each row of ``result`` is; -1 for those born later."""

    def current_values(self) -> dict[str, Any]:
        """The selection's parameters by name as they are shown now, with gradient."""
        values: dict[str, Any] = {**self.selected, "sh0": self.current_sh0()}
        if self.is_bounded:
            sh0_src, shN_src = self.source.sh0[self.rows], self.source.shN[self.rows]
            values["shN"] = following_shN(values["shN"], values["sh0"], shN_src, sh0_src)
        return values

    def current_sh0(self) -> Float[Tensor, "m 1 d"]:
        """The selection's colours of degree 0 as they are shown now, with gradient."""
        sh0 = self.selected["sh0"]
        return bounded_sh0(sh0, self.source.sh0[self.rows]) if self.is_bounded else sh0

    def optimizer_groups(self, learning_rates: Mapping[str, Any]) -> list[dict[str, Any]]:
        """An optimiser's groups, one for each attribute that moves, with its name; rates are set before each step.

        Args:
            learning_rates: By attribute; one that is 0 keeps the attribute.
        """
        return [
            {"params": [parameter], "name": name, "lr": 0.0}
            for name, parameter in self.selected.items()
            if parameter.numel() and learning_rates[name] != 0
        ]

    def drift(self, name: str, weights: Float[Tensor, "g"] | None = None) -> Float[Tensor, ""]:
        """Mean squared distance of one attribute from its anchor over the selection, in the units it is optimised in.

        Args:
            name: The attribute.
            weights: How much each generation counts; None: all the same.
        """
        of_each = torch.ones_like(self.grad_sums) if weights is None else weights.to(self.grad_sums)[self.generations]
        return held_drift(self.selected[name], getattr(self, f"anchor_{name}"), of_each)

    def is_finite(self) -> bool:
        """Whether every parameter is finite."""
        return all(bool(torch.isfinite(parameter).all()) for parameter in self.selected.values())

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> "EditableScene":
        super()._apply(function, recurse)
        self.source = self.source._map(function)
        self.is_selected = function(self.is_selected)
        return self
