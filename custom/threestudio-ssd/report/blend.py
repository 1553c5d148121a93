"""A splat between a scene and its edit, by files: which rows belong together, and what is written."""

import shutil
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ..errors import ConfigError, SceneFormatError, first_line
from ..files import whole_file
from ..gaussians import blended
from ..gaussians.io import load_gaussians, save_gaussians
from .history import digest_of, edits_behind
from .results import Result

ROWS = "edited_rows.npy"
"""Beside a result of another number of Gaussians: for each, its row in the scene before the edit, -1 for new ones."""


def write_blend(before: Result, after: Result, amount: float, out: str | Path) -> str:
    """Write what lies between two splats; at 0 and 1 the very bytes of one of them, where the format is the same.

    Args:
        before: At 0.
        after: At 1, an edit of it.
        amount: In [0, 1].
        out: Splat file; its suffix decides the format.

    Returns:
        What was written, in a line.

    Raises:
        ConfigError: If the amount is out of range.
        SceneFormatError: If a splat cannot be read or written, or their rows do not belong together.
    """
    if not 0 <= amount <= 1:
        raise ConfigError(what=f"amount is {amount:g}", expected="from 0 to 1", fix="set amount=0.5")
    source = load_gaussians(before.splat)
    edited = load_gaussians(after.splat, beside=source)
    if source.sh_degree != edited.sh_degree:
        what = f"{before.splat} has SH degree {source.sh_degree}, {after.splat} has {edited.sh_degree}"
        raise SceneFormatError(what=what, expected="a scene and an edit of it", fix="blend files of one format")
    rows = rows_between(before, after, len(source), len(edited))
    end, gaussians = {0.0: (before, source), 1.0: (after, edited)}.get(float(amount), (None, None))
    if end is not None and end.splat.is_file() and _format(end.splat) == _format(Path(out)):
        with whole_file(out) as beside:
            shutil.copyfile(end.splat, beside)
    else:
        save_gaussians(gaussians or blended(source, edited, rows, amount), out)
    num_new = int((rows < 0).sum())
    num_gone = len(source) - (len(rows) - num_new)
    return f"{out}: {len(rows) - num_new:,} Gaussians in both, {num_gone:,} fade out, {num_new:,} fade in"


def _format(path: Path) -> str:
    name = path.name.lower()
    return ".compressed.ply" if name.endswith(".compressed.ply") else path.suffix.lower()


def rows_between(before: Result, after: Result, num_before: int, num_after: int) -> Int[Tensor, "m"]:
    """For each Gaussian after an edit its row before; -1 for new ones.

    It stands in ``edited_rows.npy`` beside the result. Where there is none, every row stays in its place.

    Raises:
        SceneFormatError: If the file is of another scene or unreadable, or there is none and the numbers differ.
    """
    file = after.beside(ROWS)
    expected, fix = f"the scene that the edit was made from, or {ROWS} of that very edit", "check the two paths"
    if not file.is_file():
        if num_before != num_after:
            what = f"{before.splat} has {num_before} Gaussians, {after.splat} {num_after}, and no {ROWS} lies beside it"
            raise SceneFormatError(what=what, expected=expected, fix=fix)
        return torch.arange(num_before)
    edits = edits_behind(after.splat)
    if edits and edits[-1]["scene_sha256"] != digest_of(before.splat):
        what = f"{after.splat} is an edit of {edits[-1]['scene']}, not of {before.splat}"
        raise SceneFormatError(what=what, expected=expected, fix=f"blend {edits[-1]['scene']} with it")
    try:
        rows = np.load(file, allow_pickle=False)
    except (ValueError, OSError, EOFError) as cause:
        what = f"{file} cannot be read ({first_line(cause)})"
        raise SceneFormatError(what=what, expected=expected, fix=fix) from cause
    kept = rows[rows >= 0] if rows.dtype == np.int64 and rows.shape == (num_after,) else None
    if kept is None or (kept >= num_before).any() or len(np.unique(kept)) != len(kept):
        what = f"{file} does not pair {num_after} Gaussians with {num_before}"
        raise SceneFormatError(what=what, expected=expected, fix=fix)
    return torch.from_numpy(rows)
