"""A part of a huge splat, cut out to be edited and put back: what lies outside is only copied, block by block."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Bool, Int, UInt8

from ..errors import SceneFormatError, first_line
from ..files import open_whole
from ..gaussians.io.ply import read_rows, vertex_of
from ..gaussians.io.ply_header import Header, columns_of, parse_header
from ..masks.box import checked_box
from .blend import rows_between
from .results import Result

SUFFIX = ".rows.npz"
"""Of the file beside a part that says which rows of the whole it is."""
BLOCK = 1 << 16
"""Rows read at a time."""
MOST_HEADER = 1 << 20
"""Bytes in which a header ends."""
PLAIN = "a plain binary .ply whose first element is vertex"
CENTRES = ("x", "y", "z")


@dataclass(frozen=True)
class Table:
    """The rows of a PLY, still on the disk.

    Attributes:
        path: The file.
        header: Its header.
        dtype: Of a row.
    """

    path: Path
    header: Header
    dtype: np.dtype

    def blocks(self, digest: "hashlib._Hash") -> "Iterator[np.ndarray]":
        """The rows, so many at a time; the digest is fed with every byte.

        Raises:
            SceneFormatError: If the file ends early.
        """
        left = self.header.vertex.count
        with self.path.open("rb") as file:
            digest.update(file.read(self.header.size))
            while left:
                data = file.read(min(left, BLOCK) * self.dtype.itemsize)
                rows = len(data) // self.dtype.itemsize
                if rows < min(left, BLOCK):
                    what = f"{self.path} ends {left - rows:,} rows early"
                    raise SceneFormatError(what=what, expected="a whole file", fix="copy it again")
                digest.update(data)
                left -= rows
                yield np.frombuffer(data, self.dtype)

    def rest(self) -> Iterator[bytes]:
        """What follows the rows."""
        with self.path.open("rb") as file:
            file.seek(self.header.size + self.header.vertex.count * self.dtype.itemsize)
            while data := file.read(1 << 24):
                yield data


def table_of(path: str | Path) -> Table:
    """The rows of a plain binary PLY.

    Raises:
        SceneFormatError: If it is none.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(MOST_HEADER)
        size = path.stat().st_size
    except OSError as error:
        what = f"{path} cannot be read ({error.strerror})"
        raise SceneFormatError(what=what, expected=PLAIN, fix="check the path") from error
    header = parse_header(head, path, size)
    vertex = vertex_of(header, path)
    if header.format == "ascii" or header.elements[0] is not vertex or not set(CENTRES) <= set(vertex.names):
        raise SceneFormatError(
            what=f"{path} is {header.format}, with the elements {', '.join(each.name for each in header.elements)}",
            expected=PLAIN, fix=f"convert it: launch.py --run convert {path} plain.ply",
        )  # fmt: skip
    return Table(path, header, header.dtype(vertex))


def rows_file(part: str | Path) -> Path:
    """The file that says which rows a part is."""
    return Path(part).with_suffix(SUFFIX)


def cut_part(scene: str | Path, part: str | Path, box: Sequence[float]) -> tuple[int, int]:
    """Write the Gaussians whose centres lie in a box, with the bytes of their rows; beside them, which rows they are.

    Args:
        scene: A plain binary PLY of any size.
        part: The PLY to write.
        box: x_min y_min z_min x_max y_max z_max, world units.

    Returns:
        How many rows were written, and of how many.

    Raises:
        ConfigError: If the box is none.
        SceneFormatError: If the scene cannot be read so, or nothing lies in the box.
    """
    corners = np.array(checked_box(box, "box"))
    table, digest = table_of(scene), hashlib.sha256()
    chosen, places, first = [], [], 0
    for block in table.blocks(digest):
        is_in = _in_box(block, corners)
        chosen.append(block[is_in])
        places.append(first + np.flatnonzero(is_in))
        first += len(block)
    rows = np.concatenate(places) if places else np.zeros(0, np.int64)
    if not len(rows):
        expected, fix = "a box that holds some", "launch.py --run info names the middle of a scene"
        raise SceneFormatError(what=f"no Gaussian of {scene} lies in the box {list(box)}", expected=expected, fix=fix)
    with open_whole(part) as file:
        file.write(_header_for(table.header, len(rows)))
        for block in chosen:
            file.write(block.tobytes())
    with open_whole(rows_file(part)) as file:
        np.savez(file, rows=rows, sha256=np.array(digest.hexdigest()))
    return len(rows), first


def paste_part(scene: str | Path, part: Result, edited: Result, out: str | Path) -> tuple[int, int, int]:
    """Write the scene with an edit of its part in place; all other rows keep their bytes and their order.

    Rows that the edit took away are gone, and new ones follow the others.

    Args:
        scene: What the part was cut from.
        part: By ``cut_part``.
        edited: An edit of the part, a .ply.
        out: The PLY to write.

    Returns:
        How many rows were changed, taken away and added.

    Raises:
        SceneFormatError: If these files do not belong together.
    """
    table, digest = table_of(scene), hashlib.sha256()
    before, after = table_of(part.splat), table_of(edited.splat)
    for other in (before, after):
        if other.dtype != table.dtype:
            names = [sorted(set(columns_of(np.zeros(0, each.dtype)))) for each in (table, other)]
            what = f"{other.path} has {len(names[1])} columns, {scene} {len(names[0])}, or they are of other types"
            raise SceneFormatError(what=what, expected="the columns of the whole", fix="edit the .ply that was cut out")
    places, made_of = _places(rows_file(part.splat), before.header.vertex.count)
    new = _all_rows(after)
    descent = rows_between(part, edited, len(places), len(new)).numpy()
    is_new = descent < 0
    by_place = places[descent[~is_new]]
    order = np.argsort(by_place)
    by_place, replacing = by_place[order], new[~is_new][order]
    gone = np.setdiff1d(places, by_place)
    with open_whole(out) as file:
        file.write(_header_for(table.header, table.header.vertex.count - len(gone) + int(is_new.sum())))
        changed = _copy_with(table, file, digest, by_place, replacing, gone)
        file.write(new[is_new].tobytes())
        for data in table.rest():
            file.write(data)
        if digest.hexdigest() != made_of:
            what = f"{part.splat} was not cut out of {scene} as it is now"
            raise SceneFormatError(what=what, expected="the very file", fix="cut the part out again")
    return changed, len(gone), int(is_new.sum())


def _copy_with(
    table: Table, file: BinaryIO, digest: "hashlib._Hash", places: Int[np.ndarray, "m"], rows: np.ndarray,
    gone: Int[np.ndarray, "g"],
) -> int:  # fmt: skip
    """Copy all rows, with those of some places replaced and others left out; how many changed."""
    first = changed = 0
    for block in table.blocks(digest):
        low, high = np.searchsorted(places, (first, first + len(block)))
        written = block
        if low < high:
            written = block.copy()
            written[places[low:high] - first] = rows[low:high]
            changed += int((_bytes_of(block) != _bytes_of(written)).any(axis=1).sum())
        left_out = gone[np.searchsorted(gone, first) : np.searchsorted(gone, first + len(block))] - first
        file.write(np.delete(written, left_out).tobytes() if len(left_out) else written.tobytes())
        first += len(block)
    return changed


def _bytes_of(rows: np.ndarray) -> UInt8[np.ndarray, "n bytes"]:
    return np.frombuffer(rows.tobytes(), np.uint8).reshape(len(rows), -1)


def _in_box(block: np.ndarray, corners: np.ndarray) -> Bool[np.ndarray, "n"]:
    is_in = np.ones(len(block), bool)
    for axis, name in enumerate(CENTRES):
        is_in &= (block[name] >= corners[axis]) & (block[name] <= corners[axis + 3])
    return is_in


def _places(path: Path, count: int) -> tuple[Int[np.ndarray, "m"], str]:
    """Which rows of the whole a part is, and the checksum of that whole's rows."""
    try:
        with np.load(path) as kept:
            rows, made_of = kept["rows"], str(kept["sha256"])
        if rows.dtype != np.int64 or rows.shape != (count,):
            raise ValueError(f"it names {rows.shape} rows, and the part has {count}")
    except (OSError, ValueError, KeyError) as error:
        raise SceneFormatError(
            what=f"{path} cannot be read ({first_line(error)})", expected="what --run cut wrote beside the part",
            fix="cut the part out again, and keep both files together",
        ) from error  # fmt: skip
    return rows, made_of


def _all_rows(table: Table) -> np.ndarray:
    data = table.path.read_bytes()
    return read_rows(data, table.header, table.header.vertex, table.path)[0]


def _header_for(header: Header, count: int) -> bytes:
    lines = [f"element vertex {count}" if line.split()[:2] == ["element", "vertex"] else line for line in header.lines]
    return (header.newline.join(lines) + header.newline).encode("latin-1")
