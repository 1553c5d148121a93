"""The Gaussians that one sees under a brush or in a rectangle of the picture; not those behind them."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..cameras import Cameras
from ..gaussians import Gaussians
from ..masks.tracing import MIN_VISIBLE_WEIGHT, visible_weights
from ..rendering import render_depths

BEHIND = 0.02
"""How far behind the surface in its pixel a centre may lie, as a share of its depth, to count as being in it."""
OWN_SIZES = 2.0
"""The same in units of the Gaussian's largest standard deviation."""


def disc(size: tuple[int, int], place: tuple[float, float], radius: float) -> Float[Tensor, "h w"]:
    """Pixels under a round brush, 1 or 0.

    Args:
        size: Width and height, pixels.
        place: Of its middle, x and y in [0, 1] from the top left corner.
        radius: As a share of the height.
    """
    width, height = size
    ys = (torch.arange(height) + 0.5)[:, None] - place[1] * height
    xs = (torch.arange(width) + 0.5)[None] - place[0] * width
    return (ys.square() + xs.square() <= max(radius * height, 0.5) ** 2).float()


def rectangle(
    size: tuple[int, int], corner: tuple[float, float], opposite: tuple[float, float]
) -> Float[Tensor, "h w"]:
    """Pixels in a rectangle, 1 or 0; corners as ``place`` of ``disc``, in either order."""
    width, height = size
    ys, xs = (torch.arange(height) + 0.5)[:, None] / height, (torch.arange(width) + 0.5)[None] / width
    (left, right), (top, bottom) = (sorted(pair) for pair in zip(corner, opposite, strict=True))
    return ((ys >= top) & (ys <= bottom) & (xs >= left) & (xs <= right)).float()


def visible_under(gaussians: Gaussians, camera: Cameras, mask: Float[Tensor, "h w"]) -> Bool[Tensor, "n"]:
    """Which Gaussians are seen under a mask of one picture.

    Most of what one shows of itself must lie under the mask, and its centre in or before the surface that its pixel
    shows: a Gaussian behind the object has a little weight through every half-transparent one before it.

    Args:
        gaussians: The scene.
        camera: One camera, of the mask's size.
        mask: 1 where the brush is, else 0.
    """
    under, whole = visible_weights(gaussians, camera, mask[None])
    is_picked = (whole > MIN_VISIBLE_WEIGHT) & (under > 0.5 * whole)
    rows = is_picked.nonzero()[:, 0]
    depths, alphas = (maps[0].cpu() for maps in render_depths(gaussians, camera))
    centers = gaussians.means[rows].cpu() @ camera.viewmats[0, :3, :3].mT + camera.viewmats[0, :3, 3]
    depth = centers[:, 2].clamp_min(1e-6)
    places = (centers @ camera.Ks[0].mT)[:, :2] / depth[:, None]
    height, width = mask.shape
    x, y = places[:, 0].long().clamp(0, width - 1), places[:, 1].long().clamp(0, height - 1)
    own = OWN_SIZES * gaussians.scales[rows].amax(dim=1).cpu()
    surface = torch.where(alphas[y, x] > 0.5, depths[y, x], torch.inf)
    is_picked[rows] = (depth <= surface * (1 + BEHIND) + own).to(is_picked.device)
    return is_picked
