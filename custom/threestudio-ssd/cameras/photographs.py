"""Names of views and the photographs that belong to them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..errors import SceneFormatError
from ..reading import MAX_PHOTOGRAPH, open_image

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".JPG", ".JPEG", ".PNG", ".webp")


def find_photograph(name: str, folders: Sequence[Path]) -> Path | None:
    """The photograph of that name in the first folder that has it, with any usual suffix; None if none has."""
    for folder in folders:
        path = folder / name
        if path.is_file():
            return path
        if not path.name:
            continue
        for suffix in SUFFIXES:
            for other in (path.with_suffix(suffix), path.with_name(path.name + suffix)):
                if other.is_file():
                    return other
    return None


def photograph_size(path: Path) -> tuple[int, int]:
    """Width and height of a photograph, without decoding it."""
    with open_photograph(path) as photograph:
        return photograph.size


def open_photograph(path: Path) -> "AbstractContextManager[Image.Image]":
    """A photograph that is there, as ``open_image`` gives it."""

    def refuse(why: str) -> SceneFormatError:
        what = f"{path} cannot be read as a picture ({why})"
        return SceneFormatError(what=what, expected="a PNG, JPEG or WebP file", fix="replace it")

    return open_image(path, refuse, MAX_PHOTOGRAPH)


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
    # A dot in the last part of "shot.0001" is not a suffix of a photograph.
    short = [str(path.with_suffix("")) if path.suffix in SUFFIXES else str(path) for path in full]
    return short if len(set(short)) == len(short) else [str(path) for path in full]
