"""Reading JSON camera files with errors that name the file and the key."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import reading
from ..errors import SceneFormatError
from .checks import check_name, check_poses, shortened

LARGEST = 1e12
"""Numbers beyond it are no sizes, lengths or positions of anything."""


def read_json(path: Path) -> Any:
    """The document in a JSON file."""
    return reading.read_json(path, "a camera file", "copy or export it again")


def object_of(path: Path) -> Mapping[str, Any]:
    """The document in a JSON file that holds keys and values."""
    document = read_json(path)
    if not isinstance(document, Mapping):
        what = f"{path} holds a {type(document).__name__}"
        raise SceneFormatError(what=what, expected="keys and values in braces", fix="copy or export it again")
    return document


def names_of(entries: Sequence[Mapping[str, Any]], key: str, path: Path) -> list[str]:
    """The names of views below a key, a number for each that has none."""
    names = [str(entry.get(key, f"{i:05d}")) for i, entry in enumerate(entries)]
    for name in names:
        check_name(name, path)
    return names


def frames_of(document: Any, path: Path) -> list[dict[str, Any]]:
    """The list of frames of what a file holds, at least one."""
    frames = document.get("frames") if isinstance(document, Mapping) else None
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, Mapping) for frame in frames):
        raise SceneFormatError(
            what=f"{path} has no frames",
            expected="a transforms.json with a list of frames, or an INRIA cameras.json, which is a list",
            fix="give another camera file",
        )
    return frames


def matrix_of(owner: Mapping[str, Any], key: str, path: Path, frame: Mapping[str, Any] | None = None) -> np.ndarray:
    """A 4x4 matrix under a key, from 3x4 or 4x4 numbers."""
    matrix = array_of(owner.get(key))
    if matrix.shape not in ((3, 4), (4, 4)) or not np.isfinite(matrix).all():
        where = "" if frame is None else f" of {shortened(frame.get('file_path', 'a frame'))}"
        raise SceneFormatError(
            what=f"{path}: {key}{where} is not a matrix of 3x4 or 4x4 finite numbers",
            expected="four columns: three axes and a position",
            fix="correct or remove it",
        )
    whole = np.eye(4)
    whole[:3] = matrix[:3]
    if frame is None:
        check_poses(whole[None], [key], path)
    return whole


def array_of(value: Any) -> np.ndarray:
    """Nested lists of numbers as an array of float64; empty for anything else."""
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.zeros(0)


def number_of(
    owner: Mapping[str, Any], key: str, path: Path, default: float | None = None, *, is_positive: bool = False
) -> float:
    """A finite number under a key, or the default if the key is absent."""
    value = owner.get(key, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST
    if not is_number or (is_positive and value <= 0):
        expected = "a number above 0" if is_positive else "a number"
        raise SceneFormatError(
            what=f"{path}: {key} is {shortened(repr(value))}", expected=expected, fix=f"correct {key}"
        )
    return float(value)


def opencv_viewmats(c2ws: np.ndarray, names: Sequence[str], path: Path) -> np.ndarray:
    """World-to-camera matrices with OpenCV axes from camera-to-world matrices with OpenGL axes."""
    check_poses(c2ws, names, path)
    return np.linalg.inv(c2ws @ np.diag([1.0, -1.0, -1.0, 1.0]))
