"""What the cameras of every capture must be, whatever format they are in: poses, sizes, lenses, names."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import SceneFormatError
from .lenses import Lens

MAX_SIDE = 1 << 16
"""Pixels of a side."""
FOCAL_RANGE = (1e-2, 1e3)
"""Focal lengths in units of the side: from an opening of 178 degrees to one of a twentieth of a degree."""
MAX_PRINCIPAL = 10.0
"""How far the principal point may be, in units of the side."""
SKEW = 0.1
"""How far from perpendicular, and from one another in length, the three axes of a pose may be."""
MAX_POSITION = 1e8
"""World units."""
MAX_NAME = 255
"""Bytes of a part of a photograph's path, as file systems have it."""


def check_poses(matrices: np.ndarray, names: Sequence[str], path: Path) -> None:
    """Refuse poses that are not a turn, perhaps a change of size, and a position.

    Args:
        matrices: (c 4 4) from the world to cameras or back.
        names: (c) of the views.
        path: The file they stand in.

    Raises:
        SceneFormatError: For the first that is not.
    """
    for matrix, name in zip(matrices, names, strict=True):
        problem = _problem_of(matrix)
        if problem is not None:
            raise SceneFormatError(
                what=f"{path}: the pose of {shortened(name)} {problem}",
                expected="three perpendicular axes of one length, and a finite position",
                fix="correct that camera, or remove it",
            )


def _problem_of(matrix: np.ndarray) -> str | None:
    if not np.isfinite(matrix).all():
        return "holds NaN or infinity"
    axes, position = matrix[:3, :3], matrix[:3, 3]
    with np.errstate(over="ignore", under="ignore"):
        size = np.linalg.norm(axes) / 3**0.5
    if not 1e-6 < size < 1e6 or np.abs(axes.T @ axes / size**2 - np.eye(3)).max() > SKEW:
        return "is no rotation"
    return f"has the position {position.tolist()}" if np.abs(position).max() > MAX_POSITION else None


def check_lens(lens: Lens, name: str, path: Path) -> None:
    """Refuse a lens that no camera has.

    Args:
        lens: Of a view.
        name: Of that view.
        path: The file it stands in.

    Raises:
        SceneFormatError: If its size, focal lengths, principal point or coefficients cannot be used.
    """
    low, high = FOCAL_RANGE
    numbers = zip(lens.focal, lens.principal, lens.size, "xy", strict=True)
    for focal, principal, side, axis in numbers:
        problem = None
        if not 1 <= side <= MAX_SIDE:
            problem, expected = f"a size of {lens.size[0]} x {lens.size[1]}", f"1 to {MAX_SIDE} pixels"
        elif not low * side <= focal <= high * side:
            problem, expected = f"f{axis} = {focal}", f"{low * side:g} to {high * side:g} pixels for {side} of them"
        elif not abs(principal) <= MAX_PRINCIPAL * side:
            problem, expected = f"c{axis} = {principal}", f"about {side / 2:g} pixels, half of the side"
        elif not np.isfinite(lens.params).all():
            problem, expected = f"distortion {lens.params}", "finite coefficients"
        if problem is not None:
            what = f"{path}: the camera of {shortened(name)} has {problem}"
            raise SceneFormatError(what=what, expected=expected, fix="correct that camera, or remove it")


def check_name(name: str, path: Path) -> None:
    """Refuse the name of a photograph that no file system has.

    Raises:
        SceneFormatError: If a part of it is too long, or it holds a character that no name does.
    """
    longest = max((len(part.encode("utf-8", "surrogateescape")) for part in name.split("/")), default=0)
    if longest > MAX_NAME or "\0" in name:
        problem = f"of {longest} bytes" if longest > MAX_NAME else "with a zero byte"
        raise SceneFormatError(
            what=f"{path} has the name {shortened(name)!r} {problem}",
            expected=f"a file name of up to {MAX_NAME} bytes",
            fix="correct the name, or export the cameras again",
        )  # fmt: skip


def shortened(text: object) -> str:
    """A text of a file as a message can show it."""
    text = str(text)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"
