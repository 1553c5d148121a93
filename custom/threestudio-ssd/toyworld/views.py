"""Where the toy world is looked at from: captures, held-out views, the view of a single image."""

from collections.abc import Sequence

import numpy as np

from ..cameras import Cameras
from .splat import to_cameras
from .world import orbit_camera, sample_camera

CAPTURE_SEED = 77
"""Of the random cameras of the embedded scene's capture."""
ELEVATIONS_DEG = (12, 32)
"""Elevations of views that judge a result, in turn."""


def capture_views(count: int, size: int, seed: int = CAPTURE_SEED) -> Cameras:
    """Cameras of a capture, drawn as those of the training data; square.

    Args:
        count: How many; a smaller number gives the first of them.
        size: Side of the images, pixels.
        seed: The same cameras for the same seed.
    """
    rng = np.random.default_rng(seed)
    return to_cameras([sample_camera(rng) for _ in range(count)], size, size)


def held_out_orbit(size: int, count: int = 8) -> Cameras:
    """The views that judge an edited scene: azimuths of 22.5 degrees and 45 more each, elevations in turn.

    A capture draws its cameras at random, so none of these is one of them.

    Args:
        size: Side of the images, pixels.
        count: How many; eight go all the way round.
    """
    return _sides([45.0 * place + 22.5 for place in range(count)], range(count), size)


def single_view(place: int, size: int) -> Cameras:
    """The view of a single image: another side for each place, 47 degrees of azimuth further.

    Args:
        place: Number of the side, >= 0.
        size: Side of the image, pixels.
    """
    return _sides([47.0 * place + 22.5], [place], size)


def _sides(azimuths_deg: Sequence[float], places: Sequence[int], size: int) -> Cameras:
    elevations_deg = (ELEVATIONS_DEG[place % len(ELEVATIONS_DEG)] for place in places)
    return to_cameras([orbit_camera(*angles) for angles in zip(azimuths_deg, elevations_deg, strict=True)], size, size)
