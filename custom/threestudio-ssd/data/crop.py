"""Views cropped around what may change, so that a small object fills the diffusion image; or framed alike."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..cameras import Cameras, concatenate
from ..errors import ConfigError
from ..rendering import coverage
from ..scenes import Scene

SEARCH_SIZE = 128
"""Shorter side of the images in which the selection is looked for, pixels."""
VISIBLE_SHARE = 0.1
"""Share of a pixel that the selection has to make up to count."""
FINENESS = 4096
"""Windows are cut from images of this many pixels a side, so that whole pixels are fine enough."""


def crop_to_selection(
    cameras: Cameras, gaussians: Scene, is_selected: Bool[Tensor, "n"], margin: float, max_zoom: float
) -> Cameras:
    """The views that show the selection, each cut to it, at the size and aspect they had.

    Args:
        cameras: Views of one size.
        gaussians: The scene; what hides the selection counts as hiding it.
        is_selected: What to cut around.
        margin: Space left around it, in units of its own size on every side.
        max_zoom: How much a view may be enlarged at most, >= 1.

    Raises:
        ConfigError: If no view shows the selection.
    """
    is_visible = coverage(gaussians, is_selected, small_views(cameras)) > VISIBLE_SHARE
    return crop_to_visible(cameras, is_visible, margin, max_zoom)


def small_views(cameras: Cameras) -> Cameras:
    """The views at the size at which it is looked for what they are cut around."""
    return cameras.scaled(min(1.0, SEARCH_SIZE / int(min(cameras.widths[0], cameras.heights[0]))))


def crop_to_visible(cameras: Cameras, is_visible: Bool[Tensor, "c h w"], margin: float, max_zoom: float) -> Cameras:
    """The views that show something, each cut to it; see ``crop_to_selection``.

    Args:
        cameras: Views of one size.
        is_visible: Which pixels to cut around, in the same views at any size.
        margin: Space left around them, in units of their longer side.
        max_zoom: How much a view may be enlarged at most, >= 1.

    Raises:
        ConfigError: If no view shows it.
    """
    width, height = int(cameras.widths[0]), int(cameras.heights[0])
    rows = is_visible.flatten(1).any(dim=1).nonzero()[:, 0].tolist()
    if not rows:
        raise ConfigError(
            what=f"data.crop is selection, but none of {len(cameras)} views shows the selection",
            expected="training views of what may change",
            fix="set data.crop=none, or check the mask and the cameras",
        )
    large = cameras.scaled(FINENESS / max(width, height))
    cut = []
    for row in rows:
        left, top, share = window(bounds_of(is_visible[row]), margin, max_zoom)
        full = (int(large.widths[row]), int(large.heights[row]))
        size = [max(1, round(share * side)) for side in full]
        corner = [
            min(round(place * side), side - length) for place, side, length in zip((left, top), full, size, strict=True)
        ]
        cut.append(large[row].cropped(*corner, *size).resized(width, height))
    return concatenate(cut)


def framed_alike(cameras: Cameras, point: Float[Tensor, "3"]) -> Cameras:
    """The views with a point in their middle, and what stands about it as large in each as it is in all on average.

    A diffusion model draws things where a picture has them as a rule, and as large, whatever the picture shows of
    the scene: so what it draws in views that are framed alike is one thing. Where a view has to show more than its
    picture did, it does; views are rendered.

    Args:
        cameras: Views of one size; one behind which the point lies leaves all of them as they are.
        point: What they look at, world units.
    """
    seen = [cameras.pixels(row, point[None].to(cameras.viewmats)) for row in range(len(cameras))]
    if any(float(depths) <= 0 for _, depths in seen):
        return cameras
    Ks, distances = cameras.Ks.double(), (cameras.centers - point.to(cameras.centers)).norm(dim=1).double()
    per_distance = Ks[:, 1, 1] / distances
    zoom = per_distance.mean() / per_distance
    sizes = torch.stack([cameras.widths, cameras.heights], dim=1)
    places = torch.cat([pixels for pixels, _ in seen]).double()
    Ks[:, :2, 2] = sizes / 2 + zoom[:, None] * (Ks[:, :2, 2] - places)
    Ks[:, :2, :2] *= zoom[:, None, None]
    return replace(cameras, Ks=Ks.to(cameras.Ks))


def bounds_of(is_visible: Bool[Tensor, "h w"]) -> Float[Tensor, "4"]:
    """Left, top, right, bottom of the pixels, in shares of width and height."""
    height, width = is_visible.shape
    down, across = is_visible.any(dim=1).nonzero()[:, 0], is_visible.any(dim=0).nonzero()[:, 0]
    edges = torch.stack([across[0], down[0], across[-1] + 1, down[-1] + 1]).double()
    return edges.cpu() / torch.tensor([width, height, width, height], dtype=torch.float64)


def window(bounds: Float[Tensor, "4"], margin: float, max_zoom: float) -> tuple[float, float, float]:
    """Left and top of the window around some bounds, and its side, all in shares of the image's sides.

    It has the image's aspect and lies inside the image.

    Args:
        bounds: Left, top, right, bottom in [0, 1].
        margin: Space on every side, in units of the longer side of the bounds.
        max_zoom: The window is at least 1 / this of the image.
    """
    low, high = bounds[:2], bounds[2:]
    share = float((high - low).max()) * (1 + 2 * margin)
    share = min(max(share, 1 / max_zoom), 1.0)
    left, top = ((low + high) / 2 - share / 2).clamp(0, 1 - share).tolist()
    return left, top, share
