"""Selections on disk: an array of booleans, one for each Gaussian of the scene, as NumPy writes it."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from ..early import selection_file
from ..errors import SceneFormatError, first_line


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
        values = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as cause:
        what = f"mask.saved {path} cannot be read ({first_line(cause)})"
        expected, fix = "a selection.npy, booleans as NumPy writes them", "take the file of an earlier run"
        raise SceneFormatError(what=what, expected=expected, fix=fix) from cause
    if not isinstance(values, np.ndarray) or values.dtype != np.bool_ or values.ndim != 1:
        kind = f"{values.dtype} of shape {values.shape}" if isinstance(values, np.ndarray) else "several arrays"
        what = f"mask.saved {path} holds {kind}"
        raise SceneFormatError(what=what, expected="one boolean for each Gaussian", fix="save it as booleans")
    if len(values) != num_gaussians:
        what = f"mask.saved {path} is a selection of {len(values)} Gaussians, but the scene has {num_gaussians}"
        fix = "for the result of a run that grew, take its edited_selection.npy"
        raise SceneFormatError(what=what, expected="the selection of this very scene", fix=fix)
    return torch.from_numpy(values)
