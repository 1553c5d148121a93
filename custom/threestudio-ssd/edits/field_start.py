"""Where a field begins: around the surfaces of a splat, in its colours, or beyond the open space before photographs."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..cameras import Cameras
from ..fields import Lattice, rays_of
from ..fields.lattice import CORNERS
from ..gaussians import Gaussians, rgbs_from_sh0, rotation_matrices, sh0_from_rgbs
from ..rendering import render, render_depths

THICKNESS = 0.5
"""How far before and behind a surface there are cells, in sides of a cell."""
LEAST_ALPHA = 0.5
"""A pixel or a Gaussian that shows less shows no surface."""
UNSEEN = 0.01
"""What the colour of a Gaussian counts, where that of a pixel counts 1: it stands where no view shows anything."""

NEAREST, OUTLIERS = 0.9, 0.01
"""What is before this share of the depth of a view's nearest sparse points is open, as in LLFF; so many of them err."""
AROUND = 0.25
"""Share of that depth within which nothing is around a camera either: at its tip a view is narrower than a cell."""
UNMEASURED = 0.25
"""Where there are no points: the share of a camera's distance from the middle of the scene that is open before it."""


@torch.no_grad()
def beyond_open_space(lattice: Lattice, cameras: Cameras, points: Float[Tensor, "p 3"] | None = None) -> Lattice:
    """The part of a lattice that may hold something: photographs are taken through air.

    A haze right in front of a camera, where no other looks, explains its photograph as well as the scene does.

    Args:
        lattice: Any.
        cameras: Of the photographs.
        points: Sparse points of the capture; None: it has none.
    """
    is_open = torch.zeros(len(lattice), dtype=torch.bool, device=lattice.nodes.device)
    margins = lattice.cell_sides(lattice.means)
    for row in range(len(cameras)):
        near = UNMEASURED * float((cameras.centers[row].to(lattice.center) - lattice.center).norm())
        if points is not None:
            depths = _seen_depths(cameras, row, points)
            depths = depths[depths > 0]
            near = NEAREST * float(depths.quantile(OUTLIERS)) if len(depths) else near
        depths = _seen_depths(cameras, row, lattice.means)
        is_open |= (depths > 0) & (depths + margins < near)
        is_open |= (lattice.means - cameras.centers[row].to(lattice.means)).norm(dim=1) < AROUND * near
    return lattice.select(~is_open)


@torch.no_grad()
def around_points(
    lattice: Lattice, points: Float[Tensor, "p 3"], rgbs: Float[Tensor, "p 3"]
) -> tuple[Bool[Tensor, "n"], Float[Tensor, "n 1 3"]]:
    """What sparse points say of a lattice.

    Args:
        lattice: Any.
        points: Points on surfaces.
        rgbs: Their colours in [0, 1].

    Returns:
        Which nodes are corners of cells with points, and spherical harmonics of degree 0: the mean colour of the points
        around each of these, and of all points elsewhere.
    """
    x, y, z = _cells_at(lattice, points)
    cells = lattice.cell_of[x, y, z].long()
    rows = lattice.corner_rows[cells[cells >= 0]].long()
    values = torch.cat([rgbs, torch.ones_like(rgbs[:, :1])], dim=1)[cells >= 0]
    sums = torch.zeros(len(lattice), 4, device=points.device)
    sums.index_add_(0, rows.flatten(), values.repeat_interleave(rows.shape[1], dim=0))
    is_near = sums[:, 3] > 0
    colors = torch.where(is_near[:, None], sums[:, :3] / sums[:, 3:].clamp_min(1), rgbs.mean(dim=0))
    return is_near, sh0_from_rgbs(colors)[:, None]


def _seen_depths(cameras: Cameras, row: int, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n"]:
    """Depths along the viewing axis of what is in the picture, 0 for all else."""
    pixels, depths = cameras.pixels(row, points)
    is_inside = (pixels > 0).all(dim=1) & (pixels[:, 0] < cameras.widths[row]) & (pixels[:, 1] < cameras.heights[row])
    return torch.where(is_inside & (depths > 0), depths, 0.0)


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
        image, alphas = render(splat, cameras[row], torch.zeros(3))
        rays, depths = rays_of(cameras[row].to(splat.device), 0), render_depths(splat, cameras[row])[0].flatten()
        is_solid = alphas.flatten() > LEAST_ALPHA
        rgbs, lengths = image[0].flatten(0, 1)[is_solid].clamp(0, 1), (depths / rays.cosines)[is_solid]
        origins, directions = rays.origins[is_solid], rays.directions[is_solid]
        reach = THICKNESS * lattice.cell_sides(origins + directions * lengths[:, None])
        for part in (-1, 0, 1):
            yield origins + directions * (lengths + part * reach)[:, None], rgbs, 1.0
