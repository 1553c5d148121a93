"""Rays of cameras."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..cameras import Cameras


class Rays(NamedTuple):
    """Rays in the world.

    Attributes:
        origins: (r 3) where they start.
        directions: (r 3) unit.
        cosines: (r) of the angle to the viewing axis: a length along the ray times it is a depth.
    """

    origins: Float[Tensor, "r 3"]
    directions: Float[Tensor, "r 3"]
    cosines: Float[Tensor, "r"]

    def rows(self, index: slice | Tensor) -> "Rays":
        """Some of the rays."""
        return Rays(*(values[index] for values in self))


def rays_of(cameras: Cameras, index: int, pixels: Int[Tensor, "r"] | None = None) -> Rays:
    """Rays through the middles of one camera's pixels.

    Args:
        cameras: Where ``index`` is one of.
        index: Which camera.
        pixels: Which pixels, counted row by row; None: all.
    """
    viewmat, K, width = cameras.viewmats[index], cameras.Ks[index], int(cameras.widths[index])
    if pixels is None:
        pixels = torch.arange(width * int(cameras.heights[index]), device=viewmat.device)
    return pixel_rays(viewmat.expand(len(pixels), 4, 4), K.expand(len(pixels), 3, 3), pixels % width, pixels // width)


def pixel_rays(
    viewmats: Float[Tensor, "r 4 4"], Ks: Float[Tensor, "r 3 3"], columns: Int[Tensor, "r"], rows: Int[Tensor, "r"]
) -> Rays:
    """The ray of one pixel of each camera.

    Args:
        viewmats: World to camera.
        Ks: Intrinsics, pixels.
        columns: Of the pixel.
        rows: Of the pixel.
    """
    x = (columns + 0.5 - Ks[:, 0, 2]) / Ks[:, 0, 0]
    y = (rows + 0.5 - Ks[:, 1, 2]) / Ks[:, 1, 1]
    in_camera = torch.stack([x - Ks[:, 0, 1] / Ks[:, 0, 0] * y, y, torch.ones_like(x)], dim=-1)
    cosines = 1 / in_camera.norm(dim=-1)
    turns = viewmats[:, :3, :3]
    directions = (turns.mT @ (in_camera * cosines[:, None])[..., None])[..., 0]
    origins = -(turns.mT @ viewmats[:, :3, 3:])[..., 0]
    return Rays(origins, directions, cosines)
