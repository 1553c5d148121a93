"""Where a field that is fitted to a splat begins: nodes around the splat's surfaces, in its colours."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from ..cameras import Cameras
from ..fields import Lattice, rays_of
from ..fields.lattice import CORNERS
from ..gaussians import Gaussians, rgbs_from_sh0, rotation_matrices, sh0_from_rgbs
from ..rendering import render_with_info

THICKNESS = 0.5
"""How far before and behind a surface there are cells, in sides of a cell."""
LEAST_ALPHA = 0.5
"""A pixel or a Gaussian that shows less shows no surface."""
UNSEEN = 0.01
"""What the colour of a Gaussian counts, where that of a pixel counts 1: it stands where no view shows anything."""


@torch.no_grad()
def near_surfaces(lattice: Lattice, splat: Gaussians, cameras: Cameras) -> tuple[Lattice, Float[Tensor, "n 1 3"]]:
    """The part of a lattice that is near the surfaces of a splat, and their colours; all other space is empty.

    Args:
        lattice: A whole one.
        splat: Where the lattice is.
        cameras: Views of one size.

    Returns:
        The lattice, and spherical harmonics of degree 0 for its nodes.
    """
    side = lattice.resolution - 1
    is_near = torch.zeros(side, side, side, dtype=torch.bool, device=lattice.nodes.device)
    for points, _, _ in _surfaces(lattice, splat, cameras):
        x, y, z = _cells_at(lattice, points)
        is_near[x, y, z] = True
    is_there = torch.zeros(side + 1, side + 1, side + 1, dtype=torch.bool, device=is_near.device)
    for x, y, z in CORNERS.tolist():
        is_there[x : x + side, y : y + side, z : z + side] |= is_near
    near = lattice.select(is_there.flatten()[lattice.keys])
    return near, sh0_from_rgbs(_mean_colors(near, splat, cameras))[:, None]


def _mean_colors(lattice: Lattice, splat: Gaussians, cameras: Cameras) -> Float[Tensor, "n 3"]:
    """The mean colour of the surfaces in the cells around each node, in [0, 1]."""
    sums = torch.zeros(len(lattice), 4, device=splat.device)
    for points, rgbs, weight in _surfaces(lattice, splat, cameras):
        x, y, z = _cells_at(lattice, points)
        rows = lattice.corner_rows[lattice.cell_of[x, y, z].long()].long()
        values = weight * torch.cat([rgbs, torch.ones_like(rgbs[:, :1])], dim=1)
        sums.index_add_(0, rows.flatten(), values.repeat_interleave(rows.shape[1], dim=0))
    return sums[:, :3] / sums[:, 3:]


def _cells_at(lattice: Lattice, points: Float[Tensor, "p 3"]) -> tuple[Tensor, ...]:
    return lattice.places(points).floor().clamp_(0, lattice.resolution - 2).long().unbind(1)


def _surfaces(
    lattice: Lattice, splat: Gaussians, cameras: Cameras
) -> Iterator[tuple[Float[Tensor, "p 3"], Float[Tensor, "p 3"], float]]:
    """Points on surfaces with their colours, and what these count: the Gaussians', then around what each view shows."""
    solid = splat.select(splat.opacities > LEAST_ALPHA)
    axes = rotation_matrices(solid.quats) * solid.scales[:, None]
    for shift in torch.cat([torch.eye(3), -torch.eye(3), torch.zeros(1, 3)]).to(axes):
        yield solid.means + axes @ shift, rgbs_from_sh0(solid.sh0[:, 0]).clamp(0, 1), UNSEEN
    for row in range(len(cameras)):
        image, alphas, _ = render_with_info(splat, cameras[row], torch.zeros(3), render_mode="RGB+ED")
        rays, depths = rays_of(cameras[row].to(splat.device), 0), image[0, ..., 3].flatten()
        is_solid = alphas.flatten() > LEAST_ALPHA
        rgbs, lengths = image[0, ..., :3].flatten(0, 1)[is_solid].clamp(0, 1), (depths / rays.cosines)[is_solid]
        origins, directions = rays.origins[is_solid], rays.directions[is_solid]
        reach = THICKNESS * lattice.cell_sides(origins + directions * lengths[:, None])
        for part in (-1, 0, 1):
            yield origins + directions * (lengths + part * reach)[:, None], rgbs, 1.0
