"""Adam whose colour steps follow the picture's gradient instead of normalising each Gaussian by itself."""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..cameras import Cameras
from ..gaussians import Gaussians
from ..masks import visible_weights

COLORS = ("sh0", "shN")
"""The attributes whose steps follow visible weight."""
LEAST_WEIGHT = 0.05
"""Share of the mean visible weight that every Gaussian is granted, so that specks are not thrown about."""


def color_step_weights(gaussians: Gaussians, is_selected: Bool[Tensor, "n"], cameras: Cameras) -> Float[Tensor, "k"]:
    """What ``VisibleAdam`` divides colour gradients by: pixels' worth of weight in an average training view.

    Args:
        gaussians: The scene.
        is_selected: The k Gaussians that move; hardly visible ones are lifted by a share of these ones' mean.
        cameras: All training views, of one size: a Gaussian that only a view left out here shows would be thrown about.
    """
    everything = torch.ones(len(cameras), int(cameras.heights[0]), int(cameras.widths[0]))
    weights = visible_weights(gaussians, cameras, everything)[1][is_selected] / len(cameras)
    return weights + LEAST_WEIGHT * weights.mean()


class VisibleAdam(torch.optim.Optimizer):
    """Adam (Kingma & Ba 2014), with one second moment for a whole attribute where visible weights are given.

    A Gaussian's colour gradient is the picture's gradient summed over the pixels it makes up, so dividing it by the
    Gaussian's visible weight gives the mean gradient of those pixels. Plain Adam then divides each Gaussian by its own
    history: sky that the score hardly touches moves as fast as the ground it wants white, along whatever bias is
    left. One second moment for all keeps their proportion, as an optimiser of the picture itself would.

    Args:
        groups: Parameter groups with ``lr``; one with ``visible_weights`` (n), > 0, gets the shared second moment, the
            others plain Adam.
        betas: Decay of the first and second moments.
        eps: Added to the root of the second moment.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-15
    ) -> None:
        super().__init__(groups, {"lr": 0.0, "betas": betas, "eps": eps, "visible_weights": None})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; returns what ``closure`` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, (beta1, beta2), weights = self.state[parameter], group["betas"], group["visible_weights"]
        if weights is not None:
            gradient = gradient / weights.to(gradient).view(-1, *[1] * (gradient.dim() - 1))
        square = gradient.pow(2) if weights is None else gradient.pow(2).mean()
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(square)
        state["step"] += 1
        state["exp_avg"].lerp_(gradient, 1 - beta1)
        state["exp_avg_sq"].lerp_(square, 1 - beta2)
        count = float(state["step"])
        first = state["exp_avg"] / (1 - beta1**count)
        second = state["exp_avg_sq"] / (1 - beta2**count)
        parameter.sub_(group["lr"] * first / (second.sqrt() + group["eps"]))
