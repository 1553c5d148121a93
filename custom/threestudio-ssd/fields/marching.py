"""Where rays meet filled cells: samples a fixed share of a cell apart, and no others."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .lattice import Lattice, corner_weights
from .rays import Rays

STEP = 0.5
"""Between samples, in shortest sides of the cell they lie in."""
SAFE = 0.7
"""Share of the way to the nearest filled cell that a ray leaps: cells shrink towards the scene."""
FAR = 200.0
"""Where rays end, in halves of the cube."""
NEAR = 0.02
"""Where they begin, the same."""


@dataclass
class Samples:
    """Samples of rays, ray by ray and from near to far.

    Attributes:
        rays: (s) which ray each is on.
        cells: (s) the filled cell each is in.
        parts: (s 3) where in the cell, in [0, 1].
        lengths: (s) along the ray, world units.
        num_rays: How many rays there are, with samples or without.
    """

    rays: Int[Tensor, "s"]
    cells: Int[Tensor, "s"]
    parts: Float[Tensor, "s 3"]
    lengths: Float[Tensor, "s"]
    num_rays: int

    def __len__(self) -> int:
        return len(self.rays)

    @property
    def weights(self) -> Float[Tensor, "s 8"]:
        """How much each corner of its cell counts at a sample."""
        return corner_weights(self.parts)

    def select(self, is_kept: Bool[Tensor, "s"]) -> "Samples":
        """Some of the samples, of the same rays."""
        rays, cells, parts, lengths = (each[is_kept] for each in (self.rays, self.cells, self.parts, self.lengths))
        return Samples(rays, cells, parts, lengths, self.num_rays)


@torch.no_grad()
def march(lattice: Lattice, rays: Rays, jitter: Float[Tensor, "r"] | None = None) -> Samples:
    """Go along rays and sample them where cells are filled.

    Args:
        lattice: Says which cells are filled, and how large they are.
        rays: Where to go.
        jitter: How far each starts into its first step, in [0, 1); None: 0.5.
    """
    origins, directions = rays.origins.to(lattice.center), rays.directions.to(lattice.center)
    active = torch.arange(len(origins), device=origins.device)
    shift = 0.5 if jitter is None else jitter.to(origins)
    lengths = NEAR * lattice.half + shift * STEP * lattice.cell_sides(origins)
    cell_of, distances = lattice.cell_of.reshape(-1), lattice.distances.reshape(-1)
    side, filled = lattice.resolution - 1, []
    while len(active):
        points = origins + lengths[:, None] * directions
        places = lattice.places(points)
        corner = places.floor().clamp_(0, side - 1)
        x, y, z = corner.long().unbind(1)
        keys = (x * side + y) * side + z
        distance, step = distances[keys], STEP * lattice.cell_sides(points)
        is_filled = distance == 0
        if is_filled.any():
            parts = (places[is_filled] - corner[is_filled]).clamp_(0, 1)
            filled.append((active[is_filled], cell_of[keys[is_filled]], parts, lengths[is_filled]))
        lengths = lengths + step * (SAFE * (distance - 1) / STEP).clamp_min(1)
        goes_on = lengths < FAR * lattice.half
        active, origins, directions, lengths = (each[goes_on] for each in (active, origins, directions, lengths))
    if not filled:
        nothing = torch.zeros(0, dtype=torch.int64, device=origins.device)
        return Samples(nothing, nothing, origins.new_zeros(0, 3), origins.new_zeros(0), len(rays.origins))
    of_ray, cells, parts, along = (torch.cat(each) for each in zip(*filled, strict=True))
    order = of_ray.argsort(stable=True)
    return Samples(of_ray[order], cells[order].long(), parts[order], along[order], len(rays.origins))
