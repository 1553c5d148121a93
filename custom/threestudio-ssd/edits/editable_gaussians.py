"""The Gaussians of a running edit: the selection as parameters, the rest as it was."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from ..gaussians import Gaussians, Offspring
from ..gaussians.model import FIELD_NAMES
from .editable import EditableScene
from .visible_adam import ROW_KEYS


class EditableGaussians(EditableScene):
    """A scene of which only the selected Gaussians are parameters; the selection may grow and shrink.

    Args:
        source: The scene before the edit.
        is_selected: Which Gaussians may change.
        is_bounded: See ``EditableScene``.
    """

    source: Gaussians

    def __init__(self, source: Gaussians, is_selected: Bool[Tensor, "n"], is_bounded: bool = False) -> None:
        super().__init__(source, is_selected, is_bounded)
        self._fixed, self._fixed_rows = source.select(~is_selected), (~is_selected).nonzero()[:, 0]

    @property
    def num_fixed(self) -> int:
        """How many Gaussians are never touched; they come first in ``scene``."""
        return len(self._fixed)

    def current(self) -> Gaussians:
        """The selection as it is shown now, with gradient."""
        return Gaussians(**self.current_values(), is_antialiased=self.source.is_antialiased)

    def are_moving(self) -> Bool[Tensor, "n2"]:
        """The last ones."""
        count = self.num_fixed + len(self)
        return torch.arange(count, device=self.rows.device) >= self.num_fixed

    def scene(self) -> Gaussians:
        """All Gaussians, fixed ones first, for rendering; gradients flow to the selection."""
        current = self.current()
        fields: dict[str, Any] = {
            name: torch.cat([getattr(self._fixed, name), getattr(current, name)]) for name in FIELD_NAMES
        }
        return Gaussians(**fields, is_antialiased=self.source.is_antialiased)

    @torch.no_grad()
    def result(self) -> Gaussians:
        """All Gaussians with the bookkeeping of the source's file.

        Fixed ones and the first descendant of each selected one keep the order of the source; those born later follow.
        """
        order, scene = self._result_order(), self.scene()
        fields: dict[str, Any] = {name: tensor.detach()[order] for name, tensor in scene.parameters().items()}
        if self.source.origin is None:
            return Gaussians(**fields, is_antialiased=self.source.is_antialiased)
        stems = torch.cat([self._fixed_rows, self.rows])[order].cpu()
        file_rows = torch.cat([self.source.origin_rows, torch.tensor([-1])])[stems]
        return self.source.replace(origin_rows=file_rows, **fields)

    def result_selection(self) -> Bool[Tensor, "n2"]:
        """Which Gaussians of ``result`` the edit could change."""
        return self._result_order() >= self.num_fixed

    def result_rows(self) -> Int[Tensor, "n2"]:
        """Which row of the source each Gaussian of ``result`` is; -1 for those born later."""
        rows = self._result_keys().sort(stable=True).values
        return rows.where(rows < len(self.source), -1)

    @torch.no_grad()
    def rearrange(self, offspring: Offspring, optimizer: torch.optim.Optimizer | None) -> None:
        """Put other Gaussians in place of the selection: survivors keep their optimiser state, new ones have none.

        Args:
            offspring: What became of the selection, ``parents`` counting its rows.
            optimizer: The one that moves the parameters; changed with them.
        """
        parents, is_new = offspring.parents, offspring.is_new
        for name in self._row_buffers():
            setattr(self, name, getattr(self, name)[parents])
        for name, values in offspring.gaussians.parameters().items():
            old, new = self.selected[name], nn.Parameter(values.detach().clone())
            self.selected[name] = new
            if optimizer is not None:
                _move_state(optimizer, old, new, parents, is_new)

    def begin_generation(self, is_new: Bool[Tensor, "m"], generation: int) -> None:
        """The newborn get a generation number, everything is anchored where it is, statistics start anew."""
        self.generations[is_new] = generation
        for name in FIELD_NAMES:
            getattr(self, f"anchor_{name}").copy_(self.selected[name].detach())
        self.grad_sums.zero_()
        self.grad_counts.zero_()

    def _row_buffers(self) -> list[str]:
        return ["rows", "generations", "grad_sums", "grad_counts", *(f"anchor_{name}" for name in FIELD_NAMES)]

    def _result_order(self) -> Int[Tensor, "n2"]:
        """Where each Gaussian of the result stands among the fixed ones followed by the selected ones."""
        return self._result_keys().argsort(stable=True)

    def _result_keys(self) -> Int[Tensor, "n2"]:
        """The fixed ones followed by the selected ones, each by its row of the source, or beyond it if born later."""
        num_source, count = len(self.source), len(self.rows)
        places = torch.arange(count, device=self.rows.device)
        heads = torch.full((num_source + 1,), count, device=self.rows.device)
        heads.scatter_reduce_(0, self.rows % (num_source + 1), places, "amin")  # -1 goes to the last, unused entry
        is_head = (self.rows >= 0) & (heads[self.rows % (num_source + 1)] == places)
        keys = torch.where(is_head, self.rows, num_source + places)
        return torch.cat([self._fixed_rows, keys])

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """A checkpoint may hold another number of Gaussians than there are now."""
        rows = state_dict.get(f"{prefix}rows")
        if rows is not None and len(rows) != len(self):
            for name in self._row_buffers():
                tensor = getattr(self, name)
                setattr(self, name, tensor.new_zeros(len(rows), *tensor.shape[1:]))
            for name in FIELD_NAMES:
                tensor = self.selected[name].detach()
                self.selected[name] = nn.Parameter(tensor.new_zeros(len(rows), *tensor.shape[1:]))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> "EditableGaussians":
        super()._apply(function, recurse)
        self._fixed, self._fixed_rows = self._fixed._map(function), function(self._fixed_rows)
        return self


def _move_state(
    optimizer: torch.optim.Optimizer, old: nn.Parameter, new: nn.Parameter, parents: Tensor, is_new: Tensor
) -> None:
    """Hand a parameter's optimiser state to its successor; what is kept per row follows the rows, zero for new ones."""
    for group in optimizer.param_groups:
        if any(parameter is old for parameter in group["params"]):
            group["params"] = [new if parameter is old else parameter for parameter in group["params"]]
            for key in ROW_KEYS:
                if group.get(key) is not None:
                    group[key] = group[key][parents]
    if old not in optimizer.state:
        return
    state = optimizer.state.pop(old)
    for key, value in state.items():
        if isinstance(value, Tensor) and value.shape == old.shape and value.dim():
            moved = value[parents]
            moved[is_new] = 0
            state[key] = moved
    optimizer.state[new] = state


def with_moved(
    scene: Gaussians, is_selected: Bool[Tensor, "n"], editable: EditableGaussians
) -> tuple[Gaussians, Bool[Tensor, "n2"]]:
    """A scene with its selection as it was and as it is now, and which of its Gaussians these are.

    Args:
        scene: Before the edit.
        is_selected: The selection in it.
        editable: What became of that.
    """
    current = editable.current().detach()
    is_new = torch.ones(len(current), dtype=torch.bool, device=current.device)
    return scene.append(current), torch.cat([is_selected, is_new])
