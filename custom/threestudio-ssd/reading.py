"""Files that anybody may have written: read within what they can hold, and refused in one line where they cannot be."""

import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError, SceneFormatError, first_line

if TYPE_CHECKING:
    from PIL import Image

MAX_DOCUMENT = 1 << 25
"""Bytes of a JSON document; in memory it takes up to thirty times as much."""
MAX_PIXELS, MAX_PHOTOGRAPH = 1 << 26, 1 << 24
"""Pixels of an image whose file may be of any size, if it is kept in 8 bits; the same where it becomes floats."""
PIXELS_PER_BYTE = 32
"""A larger image needs at least a byte of its file for so many pixels, as every photograph has."""
FREE_ROWS = 1 << 20
"""Rows that a file may unpack to whatever its size; beyond them it needs a byte for each, as every real one has."""
FREE_BYTES, MAX_RATIO = 1 << 26, 64
"""Bytes that a stream may unpack to whatever its size; beyond them at most so many times its own size."""
DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
"""What Pillow calls grey images of more than 8 bits."""
IMAGE_KINDS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "TIFF", "GIF", "JPEG2000", "PPM")
"""Kinds of images that are decoded; a library may start other programs for more."""


def read_json(path: Path, expected: str, fix: str) -> Any:
    """The document in a JSON file.

    Args:
        path: The file, of at most ``MAX_DOCUMENT`` bytes.
        expected: What it should be, for the message.
        fix: What to do about it.

    Raises:
        SceneFormatError: If it is not there, too large, nested too deeply, or no JSON.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_DOCUMENT + 1)
        if len(data) > MAX_DOCUMENT:
            raise ValueError(f"more than {MAX_DOCUMENT >> 20} MB")
        return json.loads(data)  # which finds out which Unicode it is, byte-order mark or not
    except OSError as error:
        raise SceneFormatError(what=f"{path} cannot be read ({error.strerror})", expected=expected, fix=fix) from error
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else first_line(error)
        raise SceneFormatError(what=f"{path} is not valid JSON ({why})", expected=expected, fix=fix) from error


@contextmanager
def open_image(
    file: Path | io.BytesIO, refuse: Callable[[str], InputError], max_pixels: int = MAX_PIXELS
) -> "Iterator[Image.Image]":
    """An image; whatever its decoder raises in the block becomes one error of ours.

    Args:
        file: Its path, or its bytes.
        refuse: Makes the error, of the reason.
        max_pixels: How many it may have in a file of any size.

    Raises:
        InputError: What ``refuse`` makes.
    """
    from PIL import Image, UnidentifiedImageError

    Image.init()
    kinds = [kind for kind in IMAGE_KINDS if kind in Image.OPEN]  # not every build has all
    try:
        with Image.open(file, formats=kinds) as image:
            num_bytes = _num_bytes(file)
            pixels = image.size[0] * image.size[1]
            if pixels > max(max_pixels, PIXELS_PER_BYTE * num_bytes):
                raise ValueError(f"{image.size[0]} x {image.size[1]} pixels in {num_bytes} bytes")
            yield _in_eight_bits(image) if image.mode in DEEP_MODES else image
    except InputError:
        raise
    except (
        OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, ArithmeticError, MemoryError, struct.error,
        zlib.error, Image.DecompressionBombError,
    ) as error:  # fmt: skip
        why = "no image of a usual kind" if isinstance(error, UnidentifiedImageError) else first_line(error)
        raise refuse(why) from error


def _in_eight_bits(image: "Image.Image") -> "Image.Image":
    """A grey image of 16 bits, or of floats from 0 to 1, as 8 bits: Pillow's own conversion cuts values off at 255."""
    import numpy as np
    from PIL import Image

    values = np.asarray(image, np.float64) / (1 if image.mode == "F" else 65535)
    if not 0 <= values.min() <= values.max() <= 1:
        raise ValueError(f"values from {values.min():g} to {values.max():g}, in units of white")
    return Image.fromarray(np.rint(values * 255).astype(np.uint8))


def _num_bytes(file: Path | io.BytesIO) -> int:
    if isinstance(file, Path):
        return file.stat().st_size
    place = file.tell()
    size = file.seek(0, 2)
    file.seek(place)
    return size


def check_rows(path: Path, count: int, num_bytes: int) -> None:
    """Refuse a packed file that promises more rows than one of its size can hold.

    Args:
        path: The file.
        count: Rows that it promises.
        num_bytes: Its size.

    Raises:
        SceneFormatError: If there are too many.
    """
    if not 0 <= count <= max(FREE_ROWS, num_bytes):
        raise SceneFormatError(
            what=f"{path} promises {count} Gaussians in {num_bytes} bytes",
            expected=f"0 to {max(FREE_ROWS, num_bytes)} in a file of that size",
            fix="copy or download the file again; it is damaged",
        )


def check_unpacked(path: Path, size: int, packed: int) -> None:
    """Refuse a stream that says it unpacks to far more than any real one.

    Args:
        path: The file it is in.
        size: Bytes that it says it unpacks to.
        packed: Bytes that it takes in the file.

    Raises:
        SceneFormatError: If that is too much.
    """
    if size > max(FREE_BYTES, MAX_RATIO * packed):
        raise SceneFormatError(
            what=f"{path} unpacks {packed} bytes to {size}",
            expected=f"at most {MAX_RATIO} times as many",
            fix="copy or download the file again; it is damaged",
        )


def inflate(data: bytes, size: int) -> bytes:
    """The first bytes of a gzip stream, whatever else it would unpack to.

    Args:
        data: The stream.
        size: How many bytes at most.

    Raises:
        EOFError: If the stream ends within these bytes without its own end.
        zlib.error: If it is damaged or no gzip stream.
    """
    stream = zlib.decompressobj(wbits=31)
    unpacked = stream.decompress(data, size)
    if len(unpacked) < size and not stream.eof:
        raise EOFError("the stream is cut short")
    return unpacked
