"""Files that are whole or not there: written beside their place and renamed, checksums, tables of weights.

Everything in the plugin that writes a file does so here, except runs, which save through the host's ``SaverMixin``.
"""

import errno
import hashlib
import json
import os
import re
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import ConfigError, StorageError

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ENOENT, errno.ESTALE})
"""Reasons of the system for which a file that could be begun cannot be written to its end."""
CUT_SHORT = re.compile(r"requested and \d+ written")
"""How NumPy says that a disk is full, without the system's reason."""
SAMPLES, SAMPLE_BYTES = 64, 2**16
"""Pieces of a large file that ``sampled_sha256`` reads, and their size."""
WRITTEN_IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""Suffixes of images that can be written."""


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A path beside ``path``, with its suffix, to write to; it becomes ``path`` when the block ends well.

    By then the disk has it, so that ``path`` is what it was or what it should be, also where the power fails.

    Args:
        path: The file; its folder is made if it is missing.

    Raises:
        StorageError: If nothing can be written there, at once or in the block.
    """
    path = Path(path)
    beside = path.with_name(f".{path.stem[:30]}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    _check_place(path, beside)
    try:
        yield beside
        _sync(beside)
        os.replace(beside, path)
        _sync(path.parent)
    except Exception as error:
        cause = _storage_cause(error)
        if cause is None or isinstance(error, StorageError):
            raise
        expected, fix = "a place with room", "make room, or choose another path"
        what = f"{path} cannot be written ({cause.strerror or cause})"
        raise StorageError(what=what, expected=expected, fix=fix) from error
    finally:
        with suppress(OSError):  # on a disk that went away, what is left cannot be removed
            beside.unlink(missing_ok=True)


def write_tensors(path: str | Path, tensors: Mapping[str, Any], **metadata: str) -> None:
    """Write tensors as safetensors; the package's own writing leaves a file that only its owner may read.

    Args:
        path: The file; its folder is made if it is missing.
        tensors: By name, on any device.
        **metadata: Words that the file holds as well.

    Raises:
        StorageError: If nothing can be written there.
    """
    from safetensors.torch import save

    with whole_file(path) as beside:
        parts = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        beside.write_bytes(save(parts, metadata or None))


def is_whole(path: str | Path) -> bool:
    """Whether a file is there and not empty, as what was not written by ``whole_file`` is left by a power cut."""
    return Path(path).is_file() and Path(path).stat().st_size > 0


def _sync(path: Path) -> None:
    """Have the disk keep a file, or the names in a folder."""
    if sys.platform == "win32":  # which syncs neither folders nor files that are opened for reading
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that syncs no folders
            raise
    finally:
        os.close(handle)


def _storage_cause(error: BaseException | None) -> OSError | None:
    """What the system said of a full or lost disk, if an error came of that; libraries wrap it."""
    while error is not None:
        if isinstance(error, OSError) and (error.errno in NO_ROOM or CUT_SHORT.search(str(error))):
            return error
        error = error.__cause__ or error.__context__
    return None


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
        raise StorageError(what=f"{path} cannot be written ({problem})", expected=expected, fix=fix)


@contextmanager
def open_whole(path: str | Path) -> Iterator[BinaryIO]:
    """The same, opened for writing bytes."""
    with whole_file(path) as beside, beside.open("wb") as file:
        yield file


def write_text(path: str | Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all."""
    with whole_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write bytes, whole or not at all."""
    with whole_file(path) as beside:
        beside.write_bytes(content)


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


def sampled_sha256(path: str | Path) -> str:
    """Checksum of a file's size and of pieces spread evenly over it, hexadecimal: quick for weights of many GB.

    It tells two trained networks apart, since training changes all weights; not two files of which one byte differs.
    """
    size = Path(path).stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with Path(path).open("rb") as file:
        for place in range(SAMPLES):
            start = place * size // SAMPLES
            file.seek(start)
            digest.update(file.read(min(SAMPLE_BYTES, (place + 1) * size // SAMPLES - start)))
    return digest.hexdigest()


def weights_table(folder: Path) -> str:
    """Markdown table of the weight files in a folder and below it, with sizes and checksums."""
    files = {str(file.relative_to(folder)): file for file in sorted(folder.rglob("*.safetensors"))}
    rows = [(f"`{name}`", f"{file.stat().st_size / 1e6:.2f} MB", f"`{sha256(file)}`") for name, file in files.items()]
    return markdown_table(("file", "size", "sha256"), rows)


def markdown_table(heads: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table, without a line break at its end."""
    lines = [" | ".join(map(str, row)) for row in (heads, *rows)]
    return "\n".join([f"| {lines[0]} |", "|---" * len(heads) + "|", *(f"| {line} |" for line in lines[1:])])
