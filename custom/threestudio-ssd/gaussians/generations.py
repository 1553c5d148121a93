"""Generations of Gaussians and how firmly each is held: the anchors of GaussianEditor (Chen et al. 2024)."""

import torch
from jaxtyping import Float
from torch import Tensor


def anchor_weights(
    num_growths: int, *, first: float, birth: float, factor: float, largest: float = 10.0
) -> Float[Tensor, "g"]:
    """How firmly each generation is held to its anchor after so many growths.

    The scene's own Gaussians are generation 0, those born at growth i generation i. At each growth every weight is
    multiplied, the youngest generation so far gets its first weight, and the one just born is free for one interval:
    [g0], [f g0, 0], [f² g0, b, 0], [f³ g0, f b, b, 0], ...

    Args:
        num_growths: Growths so far, >= 0.
        first: g0, weight of generation 0 before the first growth.
        birth: b, weight of a generation after its free interval.
        factor: f, at each growth.
        largest: No weight exceeds this.

    Returns:
        One weight a generation, 0 .. num_growths.
    """
    ages = num_growths - torch.arange(num_growths + 1)
    weights = torch.where(ages == 0, torch.zeros(()), birth * torch.tensor(float(factor)) ** (ages - 1).clamp_min(0))
    weights[0] = first * factor**num_growths
    return weights.clamp_max(largest)


def held_drift(
    values: Float[Tensor, "n *d"], anchors: Float[Tensor, "n *d"], weights: Float[Tensor, "n"]
) -> Float[Tensor, ""]:
    """Mean squared distance from the anchors, each Gaussian by its weight.

    Args:
        values: One attribute as it is optimised.
        anchors: The same at the last growth.
        weights: Of each Gaussian, see ``anchor_weights``.
    """
    squares = (values - anchors).pow(2)
    return (weights.view(-1, *[1] * (squares.dim() - 1)) * squares).mean()
