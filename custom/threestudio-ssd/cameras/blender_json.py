"""Blender / NeRF-synthetic ``transforms_{train,val,test}.json``: one opening angle, OpenGL axes, RGBA photographs."""

import math
from pathlib import Path

import numpy as np

from ..errors import SceneFormatError
from .cameras import Cameras
from .json_common import frames_of, matrix_of, names_of, number_of, object_of, opencv_viewmats
from .lenses import Lens
from .photographs import find_photograph, photograph_size, short_names

DEFAULT_SIZE = (800, 800)
"""Size of the views of the published scenes, taken where no photograph tells."""


def load_blender_json(path: Path) -> Cameras:
    """Read the cameras of one split, in the order of the file.

    The focal length is 0.5 w / tan(camera_angle_x / 2) in both directions, the principal point the centre. The size is
    that of the first photograph there is (or ``w`` and ``h``, or 800 x 800).

    Raises:
        SceneFormatError: If a key is missing or cannot be used.
    """
    document = object_of(path)
    frames = frames_of(document, path)
    names = names_of(frames, "file_path", path)
    photographs = [find_photograph(name, [path.parent]) for name in names]
    first = next((path for path in photographs if path is not None), None)
    if "w" in document and "h" in document:
        width, height = (int(number_of(document, key, path)) for key in ("w", "h"))
    else:
        width, height = photograph_size(first) if first is not None else DEFAULT_SIZE
    angle = number_of(document, "camera_angle_x", path)
    if not 0 < angle < math.pi:
        raise SceneFormatError(
            what=f"{path}: camera_angle_x is {angle}", expected="radians between 0 and pi", fix="correct camera_angle_x"
        )
    focal = 0.5 * width / math.tan(0.5 * angle)
    lens = Lens("PINHOLE", (), (focal, focal), (width / 2, height / 2), (width, height))
    c2ws = np.stack([matrix_of(frame, "transform_matrix", path, frame) for frame in frames])
    viewmats = opencv_viewmats(c2ws, names, path)
    return Cameras.of_lenses(path, viewmats, [lens] * len(frames), short_names(names), photographs)
