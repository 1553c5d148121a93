"""Selections on disk: an array of booleans, one for each Gaussian of the scene, as NumPy writes it."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from ..errors import SceneFormatError, first_line


def load_selection(path: str | Path, num_gaussians: int) -> Bool[Tensor, "n"]:
    """Read a selection that an earlier run or the preview wrote.

    Args:
        path: ``selection.npy``: (n) booleans.
        num_gaussians: Of the scene it has to fit.

    Raises:
        SceneFormatError: If it does not exist, holds something else, or belongs to another scene.
    """
    path = Path(path)
    if not path.is_file():
        raise SceneFormatError(
            what=f"mask.saved {path} does not exist",
            expected="the selection.npy of an earlier run",
            fix="check the path; every run writes save/selection.npy",
        )
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as cause:
        raise SceneFormatError(
            what=f"mask.saved {path} cannot be read ({first_line(cause)})",
            expected="a selection.npy, booleans as NumPy writes them",
            fix="take the file of an earlier run",
        ) from cause
    if not isinstance(values, np.ndarray) or values.dtype != np.bool_ or values.ndim != 1:
        kind = f"{values.dtype} of shape {values.shape}" if isinstance(values, np.ndarray) else "several arrays"
        raise SceneFormatError(
            what=f"mask.saved {path} holds {kind}",
            expected="one boolean for each Gaussian",
            fix="save it as booleans",
        )
    if len(values) != num_gaussians:
        raise SceneFormatError(
            what=f"mask.saved {path} is a selection of {len(values)} Gaussians, but the scene has {num_gaussians}",
            expected="the selection of this very scene",
            fix="for the result of a run that grew, take its edited_selection.npy",
        )
    return torch.from_numpy(values)
