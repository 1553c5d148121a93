"""The hole that a removed object leaves: where it shows, and where in space its surface goes on."""

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.sparse import coo_array
from scipy.sparse.linalg import spsolve
from torch import Tensor

from ..cameras import Cameras
from ..gaussians import Gaussians
from ..rendering import coverage, render_depths
from .clean import grown, longest_side

RIM_COVERAGE, OBJECT_COVERAGE = 0.25, 0.02
"""Share of a pixel that the rim, the object has to make up."""
FAR_BEHIND = 0.1
"""Relative difference in depth from which on a pixel shows what lies behind the surface around it."""


def rim_of(means: Float[Tensor, "n 3"], is_removed: Bool[Tensor, "n"], share: float) -> Bool[Tensor, "n"]:
    """The Gaussians that touched the removed ones: those within a share of the object's size.

    Args:
        means: Centres of the whole scene, world units.
        is_removed: The object.
        share: Of the longest side of the object.
    """
    return grown(means, is_removed, share * longest_side(means[is_removed])) & ~is_removed


def hole_masks(
    gaussians: Gaussians, is_removed: Bool[Tensor, "n"], is_rim: Bool[Tensor, "n"], cameras: Cameras, dilate: int
) -> Bool[Tensor, "c h w"]:
    """Where each view has to be filled once the object is gone: inside the rim's outline, and only where it was seen.

    What the object merely hid is seen as it is; only the place it touched was never seen from anywhere.

    Args:
        gaussians: The scene with the object.
        is_removed: The object.
        is_rim: What touched it.
        cameras: Views of one size.
        dilate: Pixels by which both outlines are widened.
    """
    kernel = np.ones((2 * dilate + 1, 2 * dilate + 1), np.uint8)
    was_object = coverage(gaussians, is_removed, cameras) > OBJECT_COVERAGE
    left = gaussians.select(~is_removed)
    rims = coverage(left, is_rim[~is_removed], cameras) > RIM_COVERAGE
    masks = []
    for object_there, rim in zip(was_object, rims, strict=True):
        outline = cv2.morphologyEx(rim.cpu().numpy().astype(np.uint8), cv2.MORPH_CLOSE, kernel)
        lines, _ = cv2.findContours(outline, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        filled = np.zeros_like(outline)
        if lines:
            cv2.drawContours(filled, [cv2.convexHull(np.concatenate(lines))], -1, 1, cv2.FILLED)
        near = cv2.dilate(object_there.cpu().numpy().astype(np.uint8), kernel)
        masks.append(torch.from_numpy(np.logical_and(filled, near)))
    return torch.stack(masks).to(gaussians.device)


def continued_depth(depths: Float[Tensor, "h w"], mask: Bool[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Depths with the hole filled by the smoothest surface that meets its border.

    The inverse depth is made harmonic inside the hole: exact for a plane, whose inverse depth is linear in the image.

    Args:
        depths: > 0, along the optical axis.
        mask: The hole; where it touches the image's border, it continues straight.
    """
    height, width = depths.shape
    inside = mask.cpu().numpy()
    rows, columns = np.nonzero(inside)
    if not len(rows) or inside.all():
        return depths
    number = np.full((height, width), -1)
    number[rows, columns] = np.arange(len(rows))
    inverse = 1 / depths.clamp_min(1e-6).cpu().double().numpy()
    entries, right, counts = [], np.zeros(len(rows)), np.zeros(len(rows))
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        y, x = rows + dy, columns + dx
        is_there = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        own = np.nonzero(is_there)[0]
        other = number[y[own], x[own]]
        counts[own] += 1
        np.add.at(right, own[other < 0], inverse[y[own], x[own]][other < 0])
        entries.append((own[other >= 0], other[other >= 0]))
    i, j = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    diagonal = np.arange(len(rows))
    values = np.concatenate([counts, -np.ones(len(i))])
    places = (np.concatenate([diagonal, i]), np.concatenate([diagonal, j]))
    system = coo_array((values, places), shape=(len(rows), len(rows))).tocsc()
    inverse[rows, columns] = np.asarray(spsolve(system, right))
    return torch.from_numpy(1 / np.clip(inverse, 1e-6, None)).to(depths)


def open_share(left: Gaussians, cameras: Cameras, masks: Bool[Tensor, "c h w"]) -> float:
    """Share of the masked pixels that show what is far behind the surface around them, or nothing; 0 where it is whole.

    Args:
        left: The scene without the object.
        cameras: Views of one size.
        masks: Where each view may be open.
    """
    num_open = 0
    for row in range(len(cameras)):
        depths, is_solid = _solid_depths(left, cameras[row])
        is_behind = depths > (1 + FAR_BEHIND) * continued_depth(depths, masks[row])
        num_open += int((masks[row] & (is_behind | ~is_solid)).sum())
    return num_open / max(1, int(masks.sum()))


def seeds_in_hole(
    left: Gaussians,
    cameras: Cameras,
    images: Float[Tensor, "c h w 3"],
    masks: Bool[Tensor, "c h w"],
    tolerance: float = 0.03,
) -> tuple[Float[Tensor, "m 3"], Float[Tensor, "m 3"], Float[Tensor, "m"]]:
    """Points that close the hole: filled pixels, put where the surface around them goes on.

    A pixel whose view already shows a surface there, within the tolerance, gets none, and no two lie closer together
    than a pixel is wide.

    Args:
        left: The scene without the object.
        cameras: Views of one size.
        images: Filled images of these views.
        masks: Where they were filled.
        tolerance: Relative difference in depth.

    Returns:
        Positions, colours in [0, 1], and the width of a pixel there, world units.
    """
    points, colors, sizes = [], [], []
    for row in range(len(cameras)):
        depths, _ = _solid_depths(left, cameras[row])
        surface = continued_depth(depths, masks[row])
        is_open = masks[row] & ((depths - surface).abs() > tolerance * surface)
        y, x = is_open.nonzero().unbind(dim=1)
        if not len(y):
            continue
        K, viewmat = cameras.Ks[row].to(depths), cameras.viewmats[row].to(depths)
        z = surface[y, x]
        rays = torch.stack([(x + 0.5 - K[0, 2]) / K[0, 0], (y + 0.5 - K[1, 2]) / K[1, 1], torch.ones_like(z)], dim=1)
        points.append((rays * z[:, None] - viewmat[:3, 3]) @ viewmat[:3, :3])
        colors.append(images[row, y, x])
        sizes.append(z / K[0, 0])
    if not points:
        return left.means.new_zeros(0, 3), left.means.new_zeros(0, 3), left.means.new_zeros(0)
    places, rgbs, widths = torch.cat(points), torch.cat(colors), torch.cat(sizes)
    cells = torch.floor(places / widths.median()).long()
    _, inverse = torch.unique(cells, dim=0, return_inverse=True)
    first = torch.full((int(inverse.max()) + 1,), len(places), device=places.device)
    first.scatter_reduce_(0, inverse, torch.arange(len(places), device=places.device), "amin")
    return places[first], rgbs[first], widths[first]


def _solid_depths(left: Gaussians, camera: Cameras) -> tuple[Float[Tensor, "h w"], Bool[Tensor, "h w"]]:
    """Depths of one view, those of pixels that show little or nothing as far as any; and which show more."""
    depths, alphas = (each[0] for each in render_depths(left, camera))
    is_solid = alphas > 0.5
    return torch.where(is_solid, depths, depths.amax()).clamp_min(1e-3), is_solid
