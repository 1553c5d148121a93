"""Reading JSON camera files with errors that name the file and the key."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SceneFormatError


def read_json(path: Path) -> Any:
    """The document in a JSON file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SceneFormatError(
            what=f"{path} is not valid JSON ({error})", expected="a camera file", fix="copy or export it again"
        ) from error


def frames_of(document: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    """The list of frames, at least one."""
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
    try:
        matrix = np.array(owner.get(key), dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.zeros(0)
    if matrix.shape not in ((3, 4), (4, 4)) or not np.isfinite(matrix).all():
        where = "" if frame is None else f" of {frame.get('file_path', 'a frame')}"
        raise SceneFormatError(
            what=f"{path}: {key}{where} is not a matrix of 3x4 or 4x4 finite numbers",
            expected="four columns: three axes and a position",
            fix="correct or remove it",
        )
    whole = np.eye(4)
    whole[:3] = matrix[:3]
    return whole


def number_of(owner: Mapping[str, Any], key: str, path: Path, default: float | None = None) -> float:
    """A finite number under a key, or the default if the key is absent."""
    value = owner.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise SceneFormatError(what=f"{path}: {key} is {value!r}", expected="a number", fix=f"correct {key}")
    return float(value)


def opencv_viewmats(c2ws: np.ndarray) -> np.ndarray:
    """World-to-camera matrices with OpenCV axes from camera-to-world matrices with OpenGL axes."""
    return np.linalg.inv(c2ws @ np.diag([1.0, -1.0, -1.0, 1.0]))
