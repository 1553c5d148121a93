"""Where the toy world is looked at from: captures, held-out views, the view of a single image; words for a view."""

from collections.abc import Sequence

import numpy as np
import torch

from ..cameras import Cameras
from .captions import framing_of, view_words
from .splat import to_cameras
from .world import OBJECT_HEIGHT, orbit_camera, sample_camera

CAPTURE_SEED = 77
"""Of the random cameras of the embedded scene's capture."""
ELEVATIONS_DEG = (12, 32)
"""Elevations of views that judge a result, in turn."""
OBJECT_CENTER = (0.0, 0.0, 0.9)
"""Where toy cameras look, world units."""


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


def words_of_views(
    cameras: Cameras, thing: str, yaw_deg: float, center: tuple[float, float, float] = OBJECT_CENTER
) -> list[str]:
    """What each camera's view can be called, to follow a caption: "seen low from the front left".

    Args:
        cameras: In a world whose z axis points up.
        thing: The object's word; "" if there is none.
        yaw_deg: Azimuth of the direction that the object's front looks in.
        center: The object's middle.
    """
    words = []
    for x, y, z in (cameras.centers - torch.tensor(center)).tolist():
        azimuth_deg, elevation_deg = np.degrees([np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))])
        words.append(view_words(thing, float(azimuth_deg) - yaw_deg, float(elevation_deg)))
    return words


def framings_of_views(
    cameras: Cameras, center: tuple[float, float, float] = OBJECT_CENTER, height: float = OBJECT_HEIGHT
) -> list[str]:
    """How each camera frames an object, as a caption begins: ``captions.framed_prefix`` of these.

    Args:
        cameras: Whole, or cropped to a region.
        center: The object's middle, world units.
        height: The object's height, world units.
    """
    framings, middle = [], torch.tensor([*center, 1.0], dtype=torch.float64)
    for viewmat, K, w, h in zip(
        cameras.viewmats.double(), cameras.Ks.double(), cameras.widths, cameras.heights, strict=True
    ):
        place = (viewmat @ middle)[:3]
        column, row, _ = (K @ (place / place[2])).tolist()
        share = height * float(K[1, 1]) / (float(place.norm()) * int(h))
        offset = float(np.hypot(column - int(w) / 2, row - int(h) / 2)) / (int(h) / 2)
        framings.append(framing_of(share, offset))
    return framings


def _sides(azimuths_deg: Sequence[float], places: Sequence[int], size: int) -> Cameras:
    elevations_deg = (ELEVATIONS_DEG[place % len(ELEVATIONS_DEG)] for place in places)
    return to_cameras([orbit_camera(*angles) for angles in zip(azimuths_deg, elevations_deg, strict=True)], size, size)
