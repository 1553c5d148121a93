"""Names of views and the photographs and masks that belong to them."""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

import numpy as np

from ..early import IMAGE_SUFFIXES
from ..errors import SceneFormatError
from ..reading import MAX_PHOTOGRAPH, open_image

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = tuple(each for suffix in IMAGE_SUFFIXES for each in (suffix, suffix.upper()))
"""What the name of a photograph may end in on disk."""
NAMED_SUFFIXES = (*IMAGE_SUFFIXES, ".heic", ".heif", ".avif", ".gif", ".exr", ".dng", ".cr2", ".nef", ".arw")
"""What it may end in where cameras name it; the pictures on disk may have been made from it."""
EXIF_ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)
"""Values of EXIF's orientation that exchange width and height."""


def find_photograph(name: str, folders: Sequence[Path]) -> Path | None:
    """The photograph of that name in the first folder that has it, with any usual suffix; None if none has.

    The name may be written with backslashes. Of one that is absolute elsewhere, its last parts are looked for.
    """
    for variant in _variants(name):
        for folder in folders:
            path = folder / variant
            if os.path.isfile(path):
                return path
            if not path.name:
                continue
            stem = _stem(path.name)
            for suffix in SUFFIXES:
                for other in (path.with_name(stem + suffix), path.with_name(path.name + suffix)):
                    if os.path.isfile(other):  # in place of Path's, which raises for a name that is too long
                        return other
    return None


def _variants(name: str) -> Iterator[str]:
    """A path as it may be meant: as written, of Windows, in another form of Unicode, of another machine."""
    yield name
    forward = name.replace("\\", "/")
    forms = dict.fromkeys((forward, unicodedata.normalize("NFC", forward), unicodedata.normalize("NFD", forward)))
    yield from (form for form in forms if form != name)
    if PurePosixPath(forward).is_absolute() or PureWindowsPath(forward).drive:
        parts = [part for part in forward.split("/") if part]
        yield from ("/".join(parts[start:]) for start in range(1, len(parts)))


def photograph_size(path: Path, calibrated: tuple[int, int] | None = None) -> tuple[int, int]:
    """Width and height of a photograph, without decoding it; ``calibrated`` as for ``open_photograph``."""
    with _opened(path) as photograph:
        width, height = photograph.size
        return (height, width) if is_turned(photograph, calibrated) else (width, height)


@contextmanager
def open_photograph(path: Path, calibrated: tuple[int, int] | None = None) -> "Iterator[Image.Image]":
    """A photograph that is there, as ``open_image`` gives it.

    Args:
        path: The file.
        calibrated: Width and height by its camera; where the photograph has them only after the turn that its EXIF
            entry asks for, it is turned.
    """
    with _opened(path) as photograph:
        yield _as_shown(photograph) if is_turned(photograph, calibrated) else photograph


def _opened(path: Path) -> "AbstractContextManager[Image.Image]":
    def refuse(why: str) -> SceneFormatError:
        what = f"{path} cannot be read as a picture ({why})"
        return SceneFormatError(what=what, expected="a PNG, JPEG or WebP file", fix="replace it")

    return open_image(path, refuse, MAX_PHOTOGRAPH)


def _as_shown(photograph: "Image.Image") -> "Image.Image":
    """With the turn that its EXIF entry asks for."""
    from PIL import ImageOps

    return ImageOps.exif_transpose(photograph)


def laid_as(mask: np.ndarray, photograph: Path, calibrated: tuple[int, int]) -> np.ndarray:
    """A mask (h w) with the sides of its photograph's camera, where it was drawn on the photograph as others show it.

    Args:
        mask: Of the other aspect than the camera.
        photograph: What it was drawn on; one without an EXIF turn leaves it as it is.
        calibrated: Width and height by its camera.
    """
    from PIL import Image, ImageOps

    with _opened(photograph) as stored:
        orientation, is_stored = stored.getexif().get(EXIF_ORIENTATION), not has_other_aspect(stored.size, calibrated)
    if orientation not in SIDEWAYS:
        return mask
    if is_stored and orientation in (6, 8):
        orientation = 14 - orientation  # the turn back
    image = Image.fromarray(mask)
    image.getexif()[EXIF_ORIENTATION] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def is_turned(photograph: "Image.Image", calibrated: tuple[int, int] | None) -> bool:
    """Whether cameras were computed for the photograph as its EXIF entry shows it: by the sides they were told.

    Programs differ in whether they follow that entry, so that only the sizes tell. A half turn leaves no trace in them.
    """
    is_sideways = photograph.getexif().get(EXIF_ORIENTATION) in SIDEWAYS
    return is_sideways and calibrated is not None and has_other_aspect(photograph.size, calibrated)


def has_other_aspect(size: tuple[int, int], calibrated: tuple[int, int]) -> bool:
    """Whether one is upright and the other lies on its side."""
    return (size[0] - size[1]) * (calibrated[0] - calibrated[1]) < 0


def short_names(paths: Sequence[str]) -> list[str]:
    """View names from photograph paths: without suffix and without the folders that all of them share.

    The same capture thus has the same names in every camera format. Where two would coincide, the suffix stays.
    """
    parts = [PurePosixPath(path.replace("\\", "/")) for path in paths]
    shared = len(parts[0].parent.parts) if parts else 0
    for part in parts:
        pairs = zip(part.parent.parts, parts[0].parent.parts, strict=False)
        shared = min(shared, next((i for i, (a, b) in enumerate(pairs) if a != b), len(part.parent.parts)))
    full = [PurePosixPath(*part.parts[shared:]) for part in parts]
    short = [str(path.with_name(_stem(path.name))) if path.name else str(path) for path in full]
    return short if len(set(short)) == len(short) else [str(path) for path in full]


def views_of(files: Sequence[PurePosixPath], names: Sequence[str]) -> list[list[int]]:
    """Which views pictures belong to, by one rule: one path is the end of the other, suffixes of pictures left out.

    So ``left/IMG_1.png``, ``IMG_1.png`` and COLMAP's ``left/IMG_1.jpg.png`` all belong to ``left/IMG_1``. Of several
    views it is the one that shares the most parts.

    Args:
        files: Paths of the pictures, relative to the folder that was named.
        names: Of the views.

    Returns:
        For each file the rows of its views: one, none, or several that share as many parts.
    """
    views: dict[str, list[tuple[int, tuple[str, ...]]]] = {}
    for row, name in enumerate(names):
        parts = _parts(name)
        views.setdefault(_bare(parts[-1]), []).append((row, (*parts[:-1], _bare(parts[-1]))))
    matches = []
    for file in files:
        *folders, last = _parts(str(file))
        shared = {}
        for row, view in views.get(_bare(last), []):
            length = min(len(folders) + 1, len(view))
            if (*folders, _bare(last))[-length:] == view[-length:]:
                shared[row] = length
        matches.append([row for row, length in shared.items() if length == max(shared.values())])
    return _by_suffix(files, names, matches)


def _by_suffix(files: Sequence[PurePosixPath], names: Sequence[str], matches: list[list[int]]) -> list[list[int]]:
    """Of views that differ in the suffix of their photographs alone, the one whose suffix the file has as well."""
    for file, rows in zip(files, matches, strict=True):
        own = [row for row in rows if _parts(str(file))[-1].startswith(_parts(names[row])[-1])]
        if len(rows) > 1 and len(own) == 1:
            rows[:] = own
    return matches


def _parts(path: str) -> list[str]:
    return unicodedata.normalize("NFC", path.replace("\\", "/")).split("/")


def _bare(name: str) -> str:
    """A name without all its suffixes of pictures."""
    return name if _stem(name) == name else _bare(_stem(name))


def _stem(name: str) -> str:
    """A name without the suffix of a picture; what follows a dot in ``shot.0001`` is none."""
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and f"{dot}{suffix}".lower() in NAMED_SUFFIXES else name
