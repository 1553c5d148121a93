"""Point clouds in PLY files: positions and 8-bit colours, as structure from motion leaves them."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...errors import SceneFormatError
from .common import read_bytes
from .ply import read_rows, vertex_of, white_of
from .ply_header import parse_header

_COLUMNS = ("x", "y", "z", "red", "green", "blue")


def read_points_ply(path: Path) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
    """Positions as written and colours in [0, 1].

    Raises:
        SceneFormatError: If the file is broken or lacks a column.
    """
    data = read_bytes(path)
    header = parse_header(data, path)
    vertex = vertex_of(header, path)
    missing = [name for name in _COLUMNS if name not in vertex.names]
    if missing:
        raise SceneFormatError(
            what=f"{path} has no column {missing[0]}", expected=f"points with {', '.join(_COLUMNS)}",
            fix="export the point cloud with its colours, or take ply_file_path out of transforms.json",
        )  # fmt: skip
    rows = read_rows(data, header, vertex, path)[0]
    table = np.stack([rows[name].astype(np.float64) for name in _COLUMNS], axis=1)
    return torch.from_numpy(table[:, :3]).float(), torch.from_numpy(table[:, 3:] / white_of(rows, vertex)).float()
