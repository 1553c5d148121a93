"""Sparse points of a capture: where structure from motion found something, and its colour."""

import struct
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import SceneFormatError, first_line
from .colmap import find_colmap_model

_RECORD = struct.Struct("<Q3d3BdQ")


def load_points(path: str | Path) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]] | None:
    """The sparse points of a COLMAP model.

    Args:
        path: A ``points3D.bin`` or ``.txt``, or a folder with a COLMAP model at any depth.

    Returns:
        Positions in the model's world, float64, and colours in [0, 1], in the file's order; None if there are none.

    Raises:
        SceneFormatError: If the file is cut short or is something else.
    """
    path = Path(path)
    if path.is_dir():
        model = find_colmap_model(path)
        files = [] if model is None else [model / "points3D.bin", model / "points3D.txt"]
        path = next((file for file in files if file.is_file()), path)
    if not path.is_file():
        return None
    try:
        rows = _from_binary(path) if path.suffix == ".bin" else _from_text(path)
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        raise SceneFormatError(
            what=f"{path} cannot be read ({type(error).__name__}: {first_line(error)})",
            expected="COLMAP's points3D.bin or points3D.txt",
            fix="copy the folder again, or export the model anew from COLMAP",
        ) from error
    if not len(rows):
        return None
    return torch.from_numpy(rows[:, :3]), torch.from_numpy(rows[:, 3:] / 255).float()


def _from_binary(path: Path) -> np.ndarray:
    data = path.read_bytes()
    (count,) = struct.unpack_from("<Q", data)
    offset, rows = 8, []
    for _ in range(count):
        _, x, y, z, r, g, b, _, length = _RECORD.unpack_from(data, offset)
        offset += _RECORD.size + 8 * length
        if offset > len(data):
            raise ValueError("ends inside a track")
        rows.append((x, y, z, r, g, b))
    return np.array(rows, dtype=np.float64).reshape(-1, 6)


def _from_text(path: Path) -> np.ndarray:
    lines = (
        line.split() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip() and line[0] != "#"
    )
    return np.array([[float(word) for word in words[1:7]] for words in lines], dtype=np.float64).reshape(-1, 6)
