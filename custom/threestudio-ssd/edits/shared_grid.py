"""Values shared among points that are near each other, on a grid with linear interpolation, in any dimension."""

import itertools
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Shares(NamedTuple):
    """The matrix P (n points x m nodes) of linear interpolation; only nodes that a point touches are counted.

    Attributes:
        nodes: (n 2^d) the nodes around each point, 0 .. m - 1.
        weights: (n 2^d) how much each of them counts, summing to 1.
        num_nodes: m.
    """

    nodes: Int[Tensor, "n k"]
    weights: Float[Tensor, "n k"]
    num_nodes: int

    def to_nodes(self, values: Float[Tensor, "n c"]) -> Float[Tensor, "m c"]:
        """P^T values: what the points give to the nodes."""
        given = self.weights[..., None] * values[:, None]
        nodes = values.new_zeros(self.num_nodes, values.shape[1])
        return nodes.index_add(0, self.nodes.reshape(-1), given.flatten(0, 1))

    def to_points(self, values: Float[Tensor, "m c"]) -> Float[Tensor, "n c"]:
        """P values: what the points get from the nodes; ``index_select``, whose gradient is summed in one order."""
        taken = values.index_select(0, self.nodes.reshape(-1)).view(*self.nodes.shape, values.shape[1])
        return (taken * self.weights[..., None]).sum(dim=1)


def linear_shares(points: Float[Tensor, "n d"], side: float) -> Shares:
    """Shares of points in a grid.

    Args:
        points: Finite.
        side: Of a cell, > 0, in the points' unit.
    """
    places = points.detach().cpu().double() / side  # not every device has doubles
    corner = places.floor()
    part = places - corner
    rows, weights = [], []
    for offset in itertools.product((0.0, 1.0), repeat=points.shape[1]):
        step = places.new_tensor(offset)
        rows.append(corner + step)
        weights.append(torch.where(step > 0, part, 1 - part).prod(dim=1))
    keys = torch.zeros(len(rows) * len(points), dtype=torch.int64)
    for column in torch.cat(rows).unbind(dim=1):  # axis by axis, so that no product of sides overflows
        _, ranks = column.unique(return_inverse=True)
        _, keys = (keys * (ranks.max() + 1) + ranks if len(ranks) else ranks).unique(return_inverse=True)
    count = int(keys.max()) + 1 if len(keys) else 0
    nodes = keys.view(len(rows), len(points)).T.to(points.device)
    return Shares(nodes, torch.stack(weights, dim=1).to(points), count)
