"""INRIA's ``cameras.json``: camera centre and camera-to-world rotation with OpenCV axes, in COLMAP's world."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SceneFormatError
from .cameras import Cameras
from .checks import shortened
from .json_common import array_of, names_of, number_of, read_json
from .lenses import Lens
from .photographs import find_photograph, short_names


def load_inria_json(path: Path) -> Cameras:
    """Read a ``cameras.json``, in the order of the names.

    Sizes are those used in training; a photograph of another size is scaled when it is read. The file has no principal
    point: it is the centre.

    Raises:
        SceneFormatError: If the file is no list of cameras, or a key is missing or cannot be used.
    """
    entries = read_json(path)
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, Mapping) for entry in entries):
        raise SceneFormatError(
            what=f"{path} is not a list of cameras",
            expected="INRIA's cameras.json: id, img_name, width, height, position, rotation, fx, fy",
            fix="give another camera file",
        )
    entries = sorted(entries, key=lambda entry: str(entry.get("img_name", "")))
    names = names_of(entries, "img_name", path)
    lenses = [_lens(entry, path) for entry in entries]
    folders = [place / name for place in (path.parent, path.parent.parent) for name in ("images", "input", ".")]
    viewmats = np.stack([_viewmat(entry, path) for entry in entries])
    photographs = [find_photograph(name, folders) for name in names]
    return Cameras.of_lenses(path, viewmats, lenses, short_names(names), photographs)


def _lens(entry: Mapping[str, Any], path: Path) -> Lens:
    width, height, fx, fy = (number_of(entry, key, path) for key in ("width", "height", "fx", "fy"))
    return Lens("PINHOLE", (), (fx, fy), (width / 2, height / 2), (int(width), int(height)))


def _viewmat(entry: Mapping[str, Any], path: Path) -> np.ndarray:
    rotation, position = (array_of(entry.get(key)) for key in ("rotation", "position"))
    if rotation.shape != (3, 3) or position.shape != (3,) or not np.isfinite([*rotation.flat, *position]).all():
        raise SceneFormatError(
            what=f"{path}: camera {shortened(entry.get('img_name'))} has no usable rotation and position",
            expected="rotation: 3x3 finite numbers, position: 3",
            fix="correct or remove it",
        )
    viewmat = np.eye(4)
    viewmat[:3, :3] = rotation.T
    viewmat[:3, 3] = -rotation.T @ position
    return viewmat
