"""Cameras: read from captures, or made around a scene that has none."""

from .cameras import Cameras, concatenate
from .extent import cameras_extent
from .lenses import Lens
from .load import load_cameras, transforms_file
from .orbit import Orbit, fit_orbit, look_at, orbit_cameras, parse_axis
from .points import load_points
from .transforms_json import World, save_transforms_json, sparse_points_file

__all__ = [
    "Cameras", "Lens", "Orbit", "World", "cameras_extent", "concatenate", "fit_orbit", "load_cameras", "load_points",
    "look_at", "orbit_cameras", "parse_axis", "save_transforms_json", "sparse_points_file", "transforms_file",
]  # fmt: skip
