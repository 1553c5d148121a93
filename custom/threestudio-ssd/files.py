"""Files that are whole or not there: written beside their place and renamed, checksums, tables of weights.

Everything in the plugin that writes a file does so here, except runs, which save through the host's ``SaverMixin``.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import ConfigError

WRITTEN_IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""Suffixes of images that can be written."""


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A path beside ``path``, with its suffix, to write to; it becomes ``path`` when the block ends well.

    Args:
        path: The file; its folder is made if it is missing.

    Raises:
        ConfigError: If nothing can be written there.
    """
    path = Path(path)
    beside = path.with_name(f".{path.stem[:30]}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    _check_place(path, beside)
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _check_place(path: Path, beside: Path) -> None:
    """Make the folder, and find out whether a file can be written into it under that name."""
    problem = "it is a folder" if path.is_dir() else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.touch()
        beside.unlink()
    except OSError as cause:
        problem = cause.strerror
    if problem is not None:
        expected, fix = "a file name in a folder that can be written", "choose another path"
        raise ConfigError(what=f"{path} cannot be written ({problem})", expected=expected, fix=fix)


@contextmanager
def open_whole(path: str | Path) -> Iterator[BinaryIO]:
    """The same, opened for writing bytes."""
    with whole_file(path) as beside, beside.open("wb") as file:
        yield file


def write_text(path: str | Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all."""
    with whole_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any) -> None:
    """Write plain values as readable JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_image(path: str | Path, pixels: np.ndarray) -> None:
    """Write pixels uint8 (h w) or (h w 3) in the format of the path's suffix, whole or not at all.

    Raises:
        ConfigError: If the suffix is none that can be written, or nothing can be written there.
    """
    from PIL import Image

    suffix = Path(path).suffix
    if suffix.lower() not in WRITTEN_IMAGES:
        expected, fix = f"one of {', '.join(WRITTEN_IMAGES)}", "choose another suffix"
        raise ConfigError(what=f"cannot write {path}: unknown suffix {suffix!r}", expected=expected, fix=fix)
    with whole_file(path) as beside:
        Image.fromarray(pixels).save(beside)


def sha256(path: str | Path) -> str:
    """Checksum of a file, hexadecimal; read in pieces, so that large weights do not fill the memory."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_table(folder: Path) -> str:
    """Markdown table of the weight files in a folder and below it, with sizes and checksums."""
    files = {str(file.relative_to(folder)): file for file in sorted(folder.rglob("*.safetensors"))}
    rows = [(f"`{name}`", f"{file.stat().st_size / 1e6:.2f} MB", f"`{sha256(file)}`") for name, file in files.items()]
    return markdown_table(("file", "size", "sha256"), rows)


def markdown_table(heads: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table, without a line break at its end."""
    lines = [" | ".join(map(str, row)) for row in (heads, *rows)]
    return "\n".join([f"| {lines[0]} |", "|---" * len(heads) + "|", *(f"| {line} |" for line in lines[1:])])
