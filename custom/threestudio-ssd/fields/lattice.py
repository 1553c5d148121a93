"""The lattice of a radiance field: all of space folded into a cube, and nodes where something may be.

Space is folded as in mip-NeRF 360 (Barron et al. 2022, Eq. 10), with the largest coordinate in place of the length:
a cube around the scene stays as it is and takes the middle half of the lattice along each axis, everything outside it
goes into the shell around. A cell whose eight corners are all nodes is filled; all other space is empty.
"""

import math
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import max_pool3d

REACH = 2.0
"""Folded coordinates lie between -2 and 2."""
FARTHEST = 14
"""Distances to filled cells are known up to so many cells."""
LEAST_RESOLUTION, MOST_RESOLUTION = 4, 512
CORNERS = torch.tensor([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])


def fold(points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """Points in units of the cube, folded into [-2, 2]: u where max|u| <= 1, else (2 - 1 / max|u|) u / max|u|."""
    size = points.abs().amax(dim=-1, keepdim=True).clamp_min(1)
    return points * ((2 - 1 / size) / size)


def unfold(folded: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """The inverse of ``fold``; the border of the lattice is infinitely far, and taken a little inside."""
    size = folded.abs().amax(dim=-1, keepdim=True).clamp(1, REACH - 1e-3)
    return folded / ((2 - size) * size)


class Lattice:
    """Where the nodes of a radiance field are.

    Args:
        center: Middle of the cube that is not folded, world.
        half: Half its side, world units, > 0.
        resolution: Nodes along each axis of the whole lattice, 4 .. 512.
        nodes: (n 3) which of them are there, each coordinate 0 .. resolution - 1, none twice.
    """

    def __init__(self, center: Float[Tensor, "3"], half: float, resolution: int, nodes: Int[Tensor, "n 3"]) -> None:
        self.center, self.half, self.resolution, self.nodes = center, float(half), int(resolution), nodes

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def spacing(self) -> float:
        """Side of a cell, folded units."""
        return 2 * REACH / (self.resolution - 1)

    @property
    def side(self) -> float:
        """Side of a cell in the cube, world units."""
        return self.half * self.spacing

    @cached_property
    def means(self) -> Float[Tensor, "n 3"]:
        """Where the nodes are, world."""
        return self.center + self.half * unfold(self.nodes.to(self.center) * self.spacing - REACH)

    def places(self, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """World points in units of nodes, 0 .. resolution - 1."""
        return (fold((points - self.center) / self.half) + REACH) / self.spacing

    def cell_sides(self, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n"]:
        """Shortest side of the cell around each point, world units: it grows with the distance from the cube."""
        size = ((points - self.center).abs().amax(dim=-1) / self.half).clamp_min(1)
        return self.side * size / (2 - 1 / size)

    @cached_property
    def keys(self) -> Int[Tensor, "n"]:
        """The nodes, each as one number."""
        x, y, z = self.nodes.long().unbind(1)
        return (x * self.resolution + y) * self.resolution + z

    @cached_property
    def row_of(self) -> Int[Tensor, "r r r"]:
        """The row of each node of the whole lattice; -1 where there is none."""
        rows = torch.full((self.resolution**3,), -1, dtype=torch.int32, device=self.nodes.device)
        rows[self.keys] = torch.arange(len(self), dtype=torch.int32, device=rows.device)
        return rows.view(self.resolution, self.resolution, self.resolution)

    @cached_property
    def _cells(self) -> tuple[Int[Tensor, "m 8"], Int[Tensor, "s s s"]]:
        side = self.resolution - 1
        corners = [self.row_of[x : x + side, y : y + side, z : z + side] for x, y, z in CORNERS.tolist()]
        is_filled = torch.ones_like(corners[0], dtype=torch.bool)
        for rows in corners:
            is_filled &= rows >= 0
        cell_of = torch.full_like(corners[0], -1)
        cell_of[is_filled] = torch.arange(int(is_filled.sum()), dtype=torch.int32, device=cell_of.device)
        return torch.stack([rows[is_filled] for rows in corners], dim=1), cell_of

    @property
    def corner_rows(self) -> Int[Tensor, "m 8"]:
        """Rows of the nodes at the corners of each filled cell, in the order of ``CORNERS``."""
        return self._cells[0]

    @property
    def cell_of(self) -> Int[Tensor, "s s s"]:
        """The filled cell at each place, -1 where space is empty; s = resolution - 1."""
        return self._cells[1]

    @cached_property
    def distances(self) -> Int[Tensor, "s s s"]:
        """Cells from each place to the nearest filled one, diagonals counting 1, at most ``FARTHEST``."""
        near = (self.cell_of >= 0).float()[None, None]
        distances = torch.full_like(self.cell_of, FARTHEST)
        distances[self.cell_of >= 0] = 0
        for distance in range(1, FARTHEST):
            for axis in range(3):  # axis by axis is quicker than the whole window
                window = [3 if each == axis else 1 for each in range(3)]
                near = max_pool3d(near, window, stride=1, padding=[width // 2 for width in window])
            distances[(near[0, 0] > 0) & (distances == FARTHEST)] = distance
        return distances

    def to(self, device: torch.device | str) -> "Lattice":
        """The same lattice on another device."""
        if self.nodes.device == torch.device(device):
            return self
        return Lattice(self.center.to(device), self.half, self.resolution, self.nodes.to(device))

    def select(self, index: Tensor | slice) -> "Lattice":
        """Some of its nodes, in the order of ``index``."""
        return Lattice(self.center, self.half, self.resolution, self.nodes[index])

    def refined(self) -> "Lattice":
        """Twice as fine: the corners of filled cells, and the middles of their edges, of their faces and of them."""
        base, finer = 2 * self.nodes[self.corner_rows[:, 0].long()], 2 * self.resolution - 1
        is_there = torch.zeros(finer, finer, finer, dtype=torch.bool, device=base.device)
        for offset in torch.cartesian_prod(*[torch.arange(3)] * 3).to(base):
            x, y, z = (base + offset).unbind(1)
            is_there[x, y, z] = True
        return Lattice(self.center, self.half, finer, is_there.nonzero())


def corner_weights(parts: Float[Tensor, "s 3"]) -> Float[Tensor, "s 8"]:
    """Weights of linear interpolation of a cell's corners, in the order of ``CORNERS``.

    Args:
        parts: Where in its cell each point is, in [0, 1].
    """
    both = torch.stack([1 - parts, parts], dim=-1)
    x, y, z = both.unbind(dim=1)
    return (x[:, :, None, None] * y[:, None, :, None] * z[:, None, None, :]).flatten(1)


def whole_lattice(center: Float[Tensor, "3"], half: float, resolution: int) -> Lattice:
    """A lattice with every node there."""
    axis = torch.arange(resolution, device=center.device)
    return Lattice(center, half, resolution, torch.cartesian_prod(axis, axis, axis))


def first_resolution(last: int, doublings: int) -> int:
    """The resolution that becomes at least ``last`` when it is doubled so often."""
    return math.ceil((last - 1) / 2**doublings) + 1
