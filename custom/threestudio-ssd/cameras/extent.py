"""The length of a scene that steps and sizes are counted in: how far apart its cameras stand."""

from jaxtyping import Float
from torch import Tensor

from .cameras import Cameras

EXTENT_MARGIN = 1.1
"""The extent is this times the largest distance of a camera from the mean of all."""
ONE_PLACE = 1e-3
"""Cameras that spread by less than this share of their distance to the scene stand at one place."""
UNKNOWN_EXTENT = 1.0
"""World units, where neither cameras nor points say a length."""


def cameras_extent(cameras: Cameras, points: Float[Tensor, "n 3"] | None = None) -> float:
    """Extent of a scene, world units, > 0: 1.1 times the largest distance of a camera from the cameras' mean.

    It is the ``cameras_extent`` of 3D Gaussian splatting and GaussianEditor (``getNerfppNorm`` of INRIA's code):
    learning rates of means are times it, and Gaussians are split and pruned by their size in units of it.

    Cameras that stand at one place, such as a single one or those of a tripod that turns, say no length. The extent is
    then the median distance of the points from that place; without points, or with all of them there, it is 1.

    Args:
        cameras: Those that a scene is trained from, at least one.
        points: Where the scene is, world: its Gaussians or sparse points. They count only for cameras at one place;
            those that are not finite do not count.
    """
    centers = cameras.centers.detach().cpu().double()
    middle = centers.mean(dim=0)
    spread, distance = float((centers - middle).norm(dim=1).max()), 0.0
    if points is not None:
        distances = (points.detach().cpu().double() - middle).norm(dim=1)
        distances = distances[distances.isfinite()]
        distance = float(distances.median()) if len(distances) else 0.0
    if spread > ONE_PLACE * distance and spread > 0:
        return EXTENT_MARGIN * spread
    return distance or UNKNOWN_EXTENT
