"""INRIA's ``cameras.json``: camera centre and camera-to-world rotation with OpenCV axes, in COLMAP's world."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SceneFormatError
from .cameras import Cameras
from .json_common import number_of, read_json
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
    names = [str(entry.get("img_name", f"{i:05d}")) for i, entry in enumerate(entries)]
    lenses = [_lens(entry, path) for entry in entries]
    folders = [place / name for place in (path.parent, path.parent.parent) for name in ("images", "input", ".")]
    viewmats = np.stack([_viewmat(entry, path) for entry in entries])
    return Cameras.of_lenses(viewmats, lenses, short_names(names), [find_photograph(name, folders) for name in names])


def _lens(entry: Mapping[str, Any], path: Path) -> Lens:
    width, height, fx, fy = (number_of(entry, key, path) for key in ("width", "height", "fx", "fy"))
    return Lens("PINHOLE", (), (fx, fy), (width / 2, height / 2), (int(width), int(height)))


def _viewmat(entry: Mapping[str, Any], path: Path) -> np.ndarray:
    try:
        rotation, position = (np.array(entry.get(key), dtype=np.float64) for key in ("rotation", "position"))
    except (TypeError, ValueError):
        rotation = position = np.zeros(0)
    if rotation.shape != (3, 3) or position.shape != (3,) or not np.isfinite([*rotation.flat, *position]).all():
        raise SceneFormatError(
            what=f"{path}: camera {entry.get('img_name')} has no usable rotation and position",
            expected="rotation: 3x3 finite numbers, position: 3",
            fix="correct or remove it",
        )
    viewmat = np.eye(4)
    viewmat[:3, :3] = rotation.T
    viewmat[:3, 3] = -rotation.T @ position
    return viewmat
