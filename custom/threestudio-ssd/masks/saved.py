"""Selections on disk: an array of booleans, one for each Gaussian of the scene, as NumPy writes it."""

from pathlib import Path
from tokenize import TokenError

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from ..early import selection_file
from ..errors import SceneFormatError, first_line
from ..files import open_whole


def load_selection(path: str | Path, num_gaussians: int) -> Bool[Tensor, "n"]:
    """Read a selection that an earlier run or the preview wrote.

    Args:
        path: ``selection.npy``: (n) booleans.
        num_gaussians: Of the scene it has to fit.

    Raises:
        SceneFormatError: If it does not exist, holds something else, or belongs to another scene.
    """
    path = selection_file(path)
    try:
        values = _read(path)
    except (ValueError, OSError, EOFError, SyntaxError, TypeError, TokenError, LookupError, RecursionError) as cause:
        if isinstance(cause, SceneFormatError):
            raise
        what = f"mask.saved {path} cannot be read ({first_line(cause)})"
        expected, fix = "a selection.npy, booleans as NumPy writes them", "take the file of an earlier run"
        raise SceneFormatError(what=what, expected=expected, fix=fix) from cause
    if len(values) != num_gaussians:
        what = f"mask.saved {path} is a selection of {len(values)} Gaussians, but the scene has {num_gaussians}"
        fix = "for the result of a run that grew, take its edited_selection.npy"
        raise SceneFormatError(what=what, expected="the selection of this very scene", fix=fix)
    return torch.from_numpy(values)


def save_selection(path: str | Path, is_selected: Bool[Tensor, "n"]) -> None:
    """Write a selection as ``load_selection`` reads it, whole or not at all.

    Raises:
        ConfigError: If nothing can be written there.
    """
    with open_whole(path) as file:
        np.save(file, is_selected.cpu().numpy())


def _read(path: Path) -> np.ndarray:
    """The (n) booleans; the header is read first, so that a promise of more than the file holds costs nothing."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version not in readers:
            raise ValueError(f"version {version} of NumPy's format")
        shape, _, dtype = readers[version](file)
        if dtype != np.bool_ or len(shape) != 1:
            what = f"mask.saved {path} holds {dtype} of shape {shape}"
            raise SceneFormatError(what=what, expected="one boolean for each Gaussian", fix="save it as booleans")
        size = path.stat().st_size - file.tell()
        if shape[0] != size:
            raise ValueError(f"{shape[0]} booleans in {size} bytes")
        return np.frombuffer(file.read(size), np.uint8) != 0
