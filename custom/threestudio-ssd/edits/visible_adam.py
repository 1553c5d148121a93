"""Adam whose colour steps follow the picture's gradient instead of normalising each Gaussian by itself."""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .shared_grid import Shares

COLORS = ("sh0", "shN")
"""The attributes whose steps follow visible weight."""
LEAST_WEIGHT = 0.05
"""Share of the mean visible weight that every Gaussian or node is granted, so that specks are not thrown about."""
ROW_KEYS = ("visible_weights", "nodes", "node_weights")
"""What a group holds for each row of its parameter; it moves when the rows do."""


def color_steps_group(weights: Float[Tensor, "n"], shares: Shares | None = None) -> dict[str, Any]:
    """What a parameter group holds so that colour steps follow visible weight.

    Args:
        weights: Pixels' worth of weight in an average training view, >= 0.
        shares: Nodes that neighbours share their steps on; None: each has its own.
    """
    if shares is None:
        return {"visible_weights": weights + LEAST_WEIGHT * weights.mean()}
    nodes = {"nodes": shares.nodes, "node_weights": shares.weights, "num_nodes": shares.num_nodes}
    return {"visible_weights": weights, **nodes}


class VisibleAdam(torch.optim.Optimizer):
    """Adam (Kingma & Ba 2014), with one second moment for a whole attribute where visible weights are given.

    A Gaussian's colour gradient is the picture's gradient summed over the pixels it makes up, so dividing it by the
    Gaussian's visible weight gives the mean gradient of those pixels. Plain Adam then divides each Gaussian by its own
    history: sky that the score hardly touches moves as fast as the ground it wants white, along whatever bias is
    left. One second moment for all keeps their proportion, as an optimiser of the picture itself would.

    Where nodes are given as well, neighbours share their steps: with P their shares of the nodes, G the gradients and w
    the visible weights, P (P^T G) / (P^T w + e) stands in place of G / (w + e). A Gaussian that one view kicks, since
    hardly any other sees it, then moves as those around it do.

    Args:
        groups: Parameter groups with ``lr``; one with ``visible_weights`` (see ``color_steps_group``) gets the shared
            second moment, the others plain Adam.
        betas: Decay of the first and second moments.
        eps: Added to the root of the second moment.

    Attributes:
        found_inf: 1 where the next step has to move nothing, 0 otherwise, as torch's fused optimisers have it; None: 0.
    """

    found_inf: Float[Tensor, ""] | None = None

    def __init__(
        self, groups: Iterable[dict[str, Any]], betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-15
    ) -> None:
        usual = {"lr": 0.0, "betas": betas, "eps": eps, **dict.fromkeys(ROW_KEYS), "num_nodes": 0}
        super().__init__(groups, usual)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; returns what ``closure`` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        is_off = self.found_inf
        if is_off is not None and is_off.device.type == "cpu":  # which nobody waits for
            if is_off:
                return loss
            is_off = None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group, is_off)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any], is_off: Tensor | None) -> None:
        state, (beta1, beta2), weights = self.state[parameter], group["betas"], group["visible_weights"]
        moves: Any = 1.0
        if is_off is not None:
            is_off = is_off.to(gradient)
            gradient, moves = torch.where(is_off > 0, 0.0, gradient), 1 - is_off
        if weights is not None:
            gradient = _per_visible_pixel(gradient.flatten(1), group).view_as(gradient)
        square = gradient.pow(2) if weights is None else gradient.pow(2).mean()
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(square)
        state["step"] = state["step"].to(gradient.device) + moves
        state["exp_avg"].lerp_(gradient, (1 - beta1) * moves)
        state["exp_avg_sq"].lerp_(square, (1 - beta2) * moves)
        count = state["step"] if parameter.device.type == "mps" else state["step"].double()  # Metal has no doubles
        first = state["exp_avg"] / (1 - beta1**count)
        second = state["exp_avg_sq"] / (1 - beta2**count)
        change = group["lr"] * first / (second.sqrt() + group["eps"])
        parameter.sub_(change if is_off is None else torch.where(is_off > 0, 0.0, change))


def _per_visible_pixel(gradient: Float[Tensor, "n c"], group: dict[str, Any]) -> Float[Tensor, "n c"]:
    weights = group["visible_weights"].to(gradient)[:, None]
    if group["nodes"] is None:
        return gradient / weights
    shares = Shares(group["nodes"], group["node_weights"].to(gradient), group["num_nodes"])
    of_nodes = shares.to_nodes(weights)
    least = LEAST_WEIGHT * of_nodes.square().sum() / of_nodes.sum().clamp_min(torch.finfo(weights.dtype).tiny)
    return shares.to_points(shares.to_nodes(gradient) / (of_nodes + least).clamp_min(torch.finfo(weights.dtype).tiny))
