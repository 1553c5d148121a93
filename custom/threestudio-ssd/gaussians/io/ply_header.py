"""The header of a PLY file: which elements and columns follow, and how they are stored."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import SceneFormatError
from ..model import Gaussians
from .common import render_mode

_TYPES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
          "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
          "float32": "f4", "float64": "f8"}  # fmt: skip
NUM_REST_COLUMNS = tuple(3 * ((degree + 1) ** 2 - 1) for degree in range(5))
"""How many ``f_rest`` columns the SH degrees 0 to 4 have."""
_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass(frozen=True)
class Element:
    """One table of a PLY file; a column of lists has the types of count and item in ``lists``."""

    name: str
    count: int
    columns: tuple[tuple[str, str], ...]
    lists: dict[str, tuple[str, str]]

    @property
    def names(self) -> list[str]:
        """Column names in file order."""
        return [name for name, _ in self.columns]


@dataclass(frozen=True)
class Header:
    """A parsed header.

    Attributes:
        lines: All lines without line ends, from ``ply`` to ``end_header``.
        format: ``ascii``, ``binary_little_endian`` or ``binary_big_endian``.
        elements: The tables in file order.
        size: Bytes up to the first row.
        newline: What ended the lines.
    """

    lines: tuple[str, ...]
    format: str
    elements: tuple[Element, ...]
    size: int
    newline: str = "\n"

    def element(self, name: str) -> Element | None:
        """The table of that name, if there is one."""
        return next((element for element in self.elements if element.name == name), None)

    def dtype(self, element: Element) -> np.dtype:
        """Record type of one row of a table without lists."""
        order = _ORDERS[self.format]
        return np.dtype([(name, order + kind) for name, kind in element.columns])

    @property
    def vertex(self) -> Element:
        """The table of Gaussians, in a header that is known to have one."""
        vertex = self.element("vertex")
        assert vertex is not None
        return vertex

    @property
    def comments(self) -> list[str]:
        """The comment lines without the word."""
        return [line[len("comment") :].strip() for line in self.lines if line.split(" ", 1)[0] == "comment"]

    @property
    def notes(self) -> dict[str, str]:
        """What comments say about the scene: its up axis, and the renderer setting it was trained with."""
        notes = {}
        for comment in self.comments:
            match comment.replace(":", " ").split():
                case ["Vertical", "Axis", axis] if re.fullmatch(r"[+-]?[xyzXYZ]", axis):
                    notes["up"] = axis.lower() if axis[0] in "+-" else f"+{axis.lower()}"
                case ["SplatRenderMode", mode]:
                    notes["render_mode"] = mode
                case ["antialiased", "1"]:
                    notes["render_mode"] = "antialiased"
        return notes


def comments_of(gaussians: Gaussians) -> list[str]:
    """Lines that say the same of a scene from a file of another format."""
    mode = "mip" if gaussians.is_antialiased else render_mode(gaussians)
    lines = [f"comment SplatRenderMode: {mode}"] if mode else []
    up = gaussians.stated_up
    return lines + ([f"comment Vertical Axis: {up.removeprefix('+')}"] if up else [])


def columns_of(table: np.ndarray | np.void) -> tuple[str, ...]:
    """Names of the columns of a record array."""
    return table.dtype.names or ()


def parse_header(data: bytes, path: Path, num_bytes: int | None = None) -> Header:
    """Read the header at the start of a PLY file.

    Args:
        data: The file, or its beginning.
        path: For messages.
        num_bytes: Of the whole file, where the data are its beginning.

    Raises:
        SceneFormatError: If this is not a PLY file or its header is broken.
    """
    if data[:3] != b"ply":
        raise SceneFormatError(
            what=f"{path} starts with {data[:16]!r}",
            expected="a PLY file, which starts with 'ply'",
            fix="give the file the suffix of its real format, or download it again",
        )
    end = data.find(b"end_header", 0, 1 << 20)
    stop = data.find(b"\n", end) + 1 if end > 0 else 0
    if stop == 0:
        raise SceneFormatError(
            what=f"{path} has no end_header line in its header",
            expected="a PLY header that ends with 'end_header'",
            fix="export or download the file again",
        )
    newline = "\r\n" if data[3:5] == b"\r\n" else "\n"
    lines = tuple(line.rstrip("\r") for line in data[:stop].decode("latin-1").split("\n")[:-1])
    file_format, elements = _parse_lines(lines, path)
    for element in elements:
        _check_element(element, path, (len(data) if num_bytes is None else num_bytes) - stop)
    return Header(lines, file_format, elements, stop, newline)


def _check_element(element: Element, path: Path, num_bytes: int) -> None:
    """Refuse a table that names a column twice, or more rows than the bytes behind the header."""
    if not 0 <= element.count <= num_bytes:
        raise SceneFormatError(
            what=f"{path} promises {element.count} rows of {element.name} in {num_bytes} bytes",
            expected="a count from 0, and at least a byte for each row",
            fix="export, copy or download the file again; it is damaged or cut short",
        )
    twice = next((name for name, times in Counter(element.names).items() if times > 1), None)
    if twice is not None:
        raise SceneFormatError(
            what=f"{path} has the column {twice} twice in its element {element.name}",
            expected="one column of each name", fix="export the file again",
        )  # fmt: skip


def _parse_lines(lines: tuple[str, ...], path: Path) -> tuple[str, tuple[Element, ...]]:
    file_format, tables = "", []
    for line in lines:
        words = line.split()
        try:
            match words:
                case ["format", name, _]:
                    file_format = name
                case ["element", name, count]:
                    tables.append((name, int(count), [], {}))
                case ["property", "list", count_type, item_type, name]:
                    tables[-1][3][name] = _TYPES[count_type], _TYPES[item_type]
                    tables[-1][2].append((name, "O"))
                case ["property", kind, name]:
                    tables[-1][2].append((name, _TYPES[kind]))
                case ["property" | "element" | "format", *_]:
                    raise ValueError(line)
        except (KeyError, ValueError, IndexError) as error:
            raise SceneFormatError(
                what=f"{path} has the header line {line[:200]!r}",
                expected="'element NAME COUNT' or 'property TYPE NAME' with a PLY type such as float, double, uchar",
                fix="export the file again",
            ) from error
    if file_format not in _ORDERS:
        raise SceneFormatError(
            what=f"{path} has the PLY format {file_format[:200]!r}",
            expected="ascii, binary_little_endian or binary_big_endian",
            fix="export the file again",
        )
    return file_format, tuple(Element(name, count, tuple(columns), lists) for name, count, columns, lists in tables)
