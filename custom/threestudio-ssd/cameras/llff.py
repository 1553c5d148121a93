"""LLFF's ``poses_bounds.npy``: camera-to-world with axes down, right, back, beside a folder of pictures.

A row of 17 numbers is a 3x5 matrix, row by row (the three axes, the position, and height, width, focal length), then
the nearest and the farthest depth. The world is that of the COLMAP model it was made from. Rows are in the order of the
pictures' names.
"""

from pathlib import Path

import numpy as np

from ..early import IMAGE_SUFFIXES
from ..errors import SceneFormatError, first_line
from .cameras import Cameras
from .checks import check_poses
from .lenses import Lens
from .photographs import short_names

POSES = "poses_bounds.npy"
FOLDERS = ("images", "images_2", "images_4", "images_8")
"""Where the pictures lie, in full size first; all are of the focal length in the file times their own size."""
MAX_ROWS = 1 << 20


def load_llff(path: Path) -> Cameras:
    """Read a ``poses_bounds.npy``; in the order of the pictures.

    Raises:
        SceneFormatError: If it is no table of 17 finite numbers each, or there are pictures for other rows.
    """
    table = _table(path)
    pictures = _pictures(path.parent)
    if pictures and len(pictures) != len(table):
        raise SceneFormatError(
            what=f"{path} has {len(table)} poses for {len(pictures)} pictures in {pictures[0].parent}",
            expected="a pose for each picture",
            fix="put the pictures there that the poses were computed from, and no others",
        )
    columns = table[:, :15].reshape(-1, 3, 5)
    down, right, back, position = (columns[:, :, place] for place in range(4))
    c2ws = np.tile(np.eye(4), (len(table), 1, 1))
    c2ws[:, :3] = np.stack([right, down, -back, position], axis=2)
    names = [picture.name for picture in pictures] or [f"{row:05d}" for row in range(len(table))]
    check_poses(c2ws, names, path)
    lenses = [_lens(*numbers) for numbers in columns[:, :, 4].tolist()]
    return Cameras.of_lenses(path, np.linalg.inv(c2ws), lenses, short_names(names), [*pictures] or [None] * len(table))


def _lens(height: float, width: float, focal: float) -> Lens:
    sides = [int(side) if abs(side) < 1e9 else 0 for side in (width, height)]
    return Lens("PINHOLE", (), (focal, focal), (sides[0] / 2, sides[1] / 2), (sides[0], sides[1]))


def _table(path: Path) -> np.ndarray:
    problem = "it is no table of numbers"
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, kind = read(file)
            if kind.kind in "fiu" and len(shape) == 2 and shape[1] == 17 and 0 < shape[0] <= MAX_ROWS:
                file.seek(0)
                table = np.load(file, allow_pickle=False).astype(np.float64)
                if np.isfinite(table).all():
                    return table
            problem = f"{kind} of shape {shape}, or values that are not finite"
    except (OSError, ValueError, EOFError, SyntaxError, TypeError) as error:
        problem = first_line(error)
    what = f"{path} cannot be read ({problem})"
    raise SceneFormatError(what=what, expected="finite numbers of shape (N, 17)", fix="copy or make the file again")


def _pictures(folder: Path) -> list[Path]:
    for name in FOLDERS:
        place = folder / name
        if place.is_dir():
            files = [file for file in place.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES]
            files = sorted(file for file in files if not file.name.startswith("."))
            if files:
                return files
    return []
