"""A first shape from edited views: what all of them take for the new object, and its surface in their colours."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool3d, conv3d, normalize

from ..cameras import Cameras
from ..gaussians import Gaussians, quats_along
from ..rendering import render
from .hull import Hull

COVER, INSET = 0.8, 1.0
"""Width of a disc, and how far it lies within the surface, in units of the distance of neighbours: narrower ones leave
gaps once they are fitted, and on the surface itself they made objects a tenth larger."""
LEAST_WEIGHT = 1e-3
"""Pixels' worth of weight below which a Gaussian is seen by no view."""


def carved(hull: Hull, agreement: float) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
    """The surface of what enough views take for the object.

    Args:
        hull: What the views say.
        agreement: Share of the views that see a point and take it for the object, in (0, 1].

    Returns:
        Points, each inside and with a neighbour outside, and the directions in which outside lies, unit length.
    """
    is_inside = hull.is_inside(agreement)[None, None]
    solid = is_inside.float()
    full = avg_pool3d(solid, 3, stride=1, padding=1, count_include_pad=True)
    is_border = is_inside & (_neighbors(solid) < 6)
    soft = avg_pool3d(full, 3, stride=1, padding=1)
    slopes = torch.stack(torch.gradient(soft[0, 0]), dim=-1).view(-1, 3)
    rows = is_border.flatten().nonzero()[:, 0]
    return hull.points[rows], normalize(-slopes[rows] @ hull.region.axes, dim=1, eps=1e-6)


def _neighbors(solid: Float[Tensor, "1 1 x y z"]) -> Float[Tensor, "1 1 x y z"]:
    """How many of a cell's six neighbours are inside."""
    kernel = solid.new_zeros(1, 1, 3, 3, 3)
    for place in ((0, 1, 1), (2, 1, 1), (1, 0, 1), (1, 2, 1), (1, 1, 0), (1, 1, 2)):
        kernel[0, 0, *place] = 1
    return conv3d(solid, kernel, padding=1)


def surface_gaussians(
    points: Float[Tensor, "n 3"], normals: Float[Tensor, "n 3"], spacing: float, opacity: float, flatness: float
) -> Gaussians:
    """Grey discs that cover a surface; they reach it from within.

    Args:
        points: On the surface, about ``spacing`` apart, world units.
        normals: Of the surface, unit length.
        spacing: World units.
        opacity: Of all, in (0, 1).
        flatness: Thickness of a disc in units of its width, in (0, 1].
    """
    scales = COVER * spacing * points.new_tensor([1.0, 1.0, flatness])
    return Gaussians(
        means=points - INSET * spacing * normals,
        log_scales=scales.log().repeat(len(points), 1),
        raw_quats=quats_along(normals),
        logit_opacities=torch.logit(points.new_full((len(points),), opacity)),
        sh0=points.new_zeros(len(points), 1, 3),
        shN=points.new_zeros(len(points), 0, 3),
    )


def seen_colors(
    gaussians: Gaussians, is_asked: Bool[Tensor, "n"], cameras: Cameras, images: Float[Tensor, "c 3 h w"],
    shares: Float[Tensor, "c 1 h w"],
) -> Float[Tensor, "m 3"]:  # fmt: skip
    """The colour that views show each Gaussian in: the mean of the pixels it makes up, by how much it does.

    A render is linear in colour, so the gradient of sum(image * render) by a Gaussian's colour is the sum of the
    pixels under its blending weights.

    Args:
        gaussians: The scene.
        is_asked: Which of them.
        cameras: Views of one size.
        images: What they show, [0, 1].
        shares: Which of their pixels count, [0, 1].

    Returns:
        RGB in [0, 1]; one that no view shows has the mean of the others.
    """
    fixed, sums = gaussians.detach(), gaussians.means.new_zeros(int(is_asked.sum()), 4)
    weighted = torch.cat([images * shares, shares], dim=1).permute(0, 2, 3, 1)
    for row in range(len(cameras)):
        colors = torch.zeros(len(gaussians), 4, device=fixed.device, requires_grad=True)
        with torch.enable_grad():
            rendered, _ = render(fixed, cameras[row], torch.zeros(4, device=fixed.device), colors)
            overlap = (rendered[0] * weighted[row]).sum()
        sums += torch.autograd.grad(overlap, colors)[0][is_asked]
    is_seen = sums[:, 3] > LEAST_WEIGHT
    rgbs = sums[:, :3] / sums[:, 3:].clamp_min(LEAST_WEIGHT)
    usual = rgbs[is_seen].mean(dim=0) if is_seen.any() else rgbs.new_full((3,), 0.5)
    return torch.where(is_seen[:, None], rgbs, usual).clamp(0, 1)
