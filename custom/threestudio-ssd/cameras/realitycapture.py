"""RealityCapture's (RealityScan's) ``Internal/External camera parameters`` in a CSV file.

A row has a name, a position ``x y alt``, ``heading pitch roll`` in degrees, ``f`` in millimetres of 35 mm film, the
principal point ``px py`` from the middle in the same units, and Brown's distortion. The world has z up, x east and y
north. With all angles 0 a camera looks down, and north is up in the picture. It is turned by roll about y, then by
pitch about x, then by heading about z, which counts clockwise as seen from above.
"""

import csv
import io
from pathlib import Path

import numpy as np

from ..errors import SceneFormatError, first_line
from ..reading import MAX_DOCUMENT
from .cameras import Cameras
from .checks import check_name, shortened
from .lenses import Lens
from .photographs import find_photograph, photograph_size, short_names

FILM = 36.0
"""Millimetres of the longer side of 35 mm film."""
COLUMNS = ("#name", "x", "y", "alt", "heading", "pitch", "roll", "f")
_OPTIONAL = ("px", "py", "k1", "k2", "k3", "k4", "t1", "t2")


def is_realitycapture(path: Path) -> bool:
    """Whether a file is such a table, by its start."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(64).removeprefix(b"\xef\xbb\xbf").startswith(b"#name,")


def load_realitycapture(path: Path) -> Cameras:
    """Read the cameras in the order of their names; the file has no sizes, so the photographs must be there.

    Raises:
        SceneFormatError: If a column is missing, a value is no number, a photograph is not there, or k4 is not 0.
    """
    rows = sorted(_rows(path), key=lambda row: row["#name"])
    names = [row["#name"] for row in rows]
    for name in names:
        check_name(name, path)
    folders = [place / name for place in (path.parent, path.parent.parent) for name in ("images", "input", ".")]
    photographs = [find_photograph(name, folders) for name in names]
    numbers = [_numbers(row, path) for row in rows]
    lenses = []
    for name, row, photograph in zip(names, numbers, photographs, strict=True):
        if photograph is None:
            raise SceneFormatError(
                what=f"{path} gives no sizes, and {shortened(name)} is not there to measure",
                expected="the photographs beside the file, or in a folder images beside it",
                fix="copy the photographs there",
            )
        lenses.append(_lens(row, photograph_size(photograph), path))
    viewmats = np.stack([_viewmat(row) for row in numbers])
    return Cameras.of_lenses(path, viewmats, lenses, short_names(names), photographs)


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_DOCUMENT + 1)
        if len(data) > MAX_DOCUMENT:
            raise ValueError(f"more than {MAX_DOCUMENT >> 20} MB")
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    except (OSError, ValueError, csv.Error) as error:
        what = f"{path} cannot be read ({first_line(error)})"
        raise SceneFormatError(what=what, expected="a CSV file", fix="export it again") from error
    missing = [name for name in COLUMNS if not rows or not isinstance(rows[0].get(name), str)]
    if missing:
        raise SceneFormatError(
            what=f"{path} has no {'camera' if not rows else f'column {missing[0]}'}",
            expected=f"the columns {', '.join(COLUMNS)}",
            fix="export it again as 'Internal/External camera parameters' (CSV)",
        )
    return [row for row in rows if row["#name"]]


def _numbers(row: dict[str, str], path: Path) -> dict[str, float]:
    numbers = {}
    for name in (*COLUMNS[1:], *_OPTIONAL):
        try:
            numbers[name] = float(row.get(name) or (0 if name in _OPTIONAL else ""))
        except (ValueError, TypeError) as error:
            what = f"{path}: {name} of {shortened(row['#name'])} is {shortened(repr(row.get(name)))}"
            raise SceneFormatError(what=what, expected="a number", fix="export it again") from error
    return numbers


def _lens(row: dict[str, float], size: tuple[int, int], path: Path) -> Lens:
    if row["k4"]:
        raise SceneFormatError(
            what=f"{path} has k4 = {row['k4']}", expected="Brown's model with k1, k2, k3, t1, t2",
            fix="align with the distortion model Brown3 with tangential, or export undistorted images",
        )  # fmt: skip
    unit = max(size) / FILM
    principal = (size[0] / 2 + row["px"] * unit, size[1] / 2 + row["py"] * unit)
    distortion = (row["k1"], row["k2"], row["t1"], row["t2"], row["k3"], 0.0, 0.0, 0.0)
    return Lens("FULL_OPENCV", distortion, (row["f"] * unit, row["f"] * unit), principal, size)


def _viewmat(row: dict[str, float]) -> np.ndarray:
    heading, pitch, roll = (np.deg2rad(row[name]) for name in ("heading", "pitch", "roll"))
    with np.errstate(invalid="ignore"):
        about_z = _turn(-heading, 0, 1)
        axes = about_z @ _turn(pitch, 1, 2) @ _turn(roll, 2, 0)  # of a camera as OpenGL has it: x right, y up, z back
    viewmat = np.eye(4)
    viewmat[:3, :3] = (axes * (1, -1, -1)).T
    viewmat[:3, 3] = -viewmat[:3, :3] @ np.array([row["x"], row["y"], row["alt"]])
    return viewmat


def _turn(angle: float, first: int, second: int) -> np.ndarray:
    """By an angle from one axis towards another."""
    matrix = np.eye(3)
    matrix[[first, second], [first, second]] = np.cos(angle)
    matrix[second, first], matrix[first, second] = np.sin(angle), -np.sin(angle)
    return matrix
