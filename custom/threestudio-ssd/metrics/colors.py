"""Whether colours of Gaussians ran away: beyond what can be shown, or from those around them."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..neighbors import Neighbors

NUM_NEIGHBORS = 8
TOLERANCE = 0.02
"""How far beyond [0, 1] a colour may be and still count as in range."""
HIDDEN = 0.1
"""Share of the mean visible weight below which a Gaussian counts as hidden."""


class ColorReading(NamedTuple):
    """What is measured of a set of Gaussians; None where there are none of the kind.

    Attributes:
        out_of_range: Share of them with a channel beyond [-0.02, 1.02], degree 0 alone.
        speckle_visible: Mean absolute difference of a visible one's colour from the mean of its 8 nearest neighbours.
        speckle_hidden: The same of hidden ones.
    """

    out_of_range: float | None
    speckle_visible: float | None
    speckle_hidden: float | None


@torch.no_grad()
def read_colors(means: Float[Tensor, "n 3"], rgbs: Float[Tensor, "n 3"], is_hidden: Bool[Tensor, "n"]) -> ColorReading:
    """Measure the colours of Gaussians; neighbours are looked for among them.

    Args:
        means: Centres of a scene's Gaussians, or of a part of it.
        rgbs: Their colours, of degree 0 alone.
        is_hidden: Which of them the training views hardly show, see ``hidden_ones``.
    """
    if len(means) == 0:
        return ColorReading(None, None, None)
    means, rgbs, hidden = means.detach().cpu(), rgbs.detach().cpu(), is_hidden.cpu()
    is_out = are_out_of_range(rgbs)
    speckles = color_speckles(means, rgbs)
    return ColorReading(float(is_out.float().mean()), _mean(speckles[~hidden]), _mean(speckles[hidden]))


def are_out_of_range(rgbs: Float[Tensor, "n 3"]) -> Bool[Tensor, "n"]:
    """Which colours have a channel that cannot be shown."""
    return ((rgbs < -TOLERANCE) | (rgbs > 1 + TOLERANCE)).any(dim=1)


def hidden_ones(visible_weights: Float[Tensor, "n"]) -> Bool[Tensor, "n"]:
    """Which Gaussians training views hardly show.

    Args:
        visible_weights: Pixels' worth of weight that each has in the views, of all those that are looked at.
    """
    return visible_weights < HIDDEN * visible_weights.mean()


def color_speckles(means: Float[Tensor, "n 3"], rgbs: Float[Tensor, "n 3"]) -> Float[Tensor, "n"]:
    """Mean absolute difference of each colour from the mean of its nearest neighbours; 0 where there are none.

    Args:
        means: Centres.
        rgbs: Colours.
    """
    count = min(NUM_NEIGHBORS, len(means) - 1)
    if count < 1:
        return torch.zeros(len(means))
    points = means.numpy()
    _, rows = Neighbors(points).nearest(points, count + 1)
    around = rgbs[torch.from_numpy(rows[:, 1:])].mean(dim=1)
    return (rgbs - around).abs().mean(dim=1)


def _mean(values: Float[Tensor, "n"]) -> float | None:
    return float(values.mean()) if len(values) else None
