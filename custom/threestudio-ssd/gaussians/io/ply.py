"""Plain 3D Gaussian splatting PLY (INRIA, nerfstudio, gsplat): read by column name, untouched rows kept.

Stored are log scales, opacity logits, raw quaternions wxyz, and SH coefficients with all of one channel together
(``f_rest_{c * K + k}``). Columns this program does not know, comments, column order, number types, ASCII text and other
elements are kept. Files with 8-bit colours instead of ``f_dc`` (nerfstudio's rgb export) are read and stay as they are.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import SceneFormatError
from ...files import open_whole
from ..model import Gaussians
from ..sh import C0
from . import mip_filter
from .common import as_arrays, cut_short, finish, origin_file, read_bytes, same_rows, untouched_altered, warn
from .ply_header import NUM_REST_COLUMNS, Element, Header, columns_of, comments_of, parse_header

FLAT_LOG_SCALE = float(np.log(1e-6))
"""Log of the third scale of 2D Gaussians (files without scale_2): thin enough to be a disk."""
MOST_LOSS = 0.05
"""Rounding of positions beyond which they are counted from the scene's middle, in units of the median size."""
_BLOCK = 8192
_MEANS, _SH0, _RGB = ("x", "y", "z"), ("f_dc_0", "f_dc_1", "f_dc_2"), ("red", "green", "blue")
_SCALES, _QUATS = ("scale_0", "scale_1", "scale_2"), ("rot_0", "rot_1", "rot_2", "rot_3")


@dataclass(frozen=True, eq=False)
class PlyFile:
    """What a PLY file held besides the values drawn.

    Attributes:
        header: Its header.
        rows: (n) records of the ``vertex`` table, as stored; ASCII numbers as float64.
        lines: The rows as text for ASCII files, else None.
        before: Bytes of the tables before ``vertex``.
        after: Bytes after the last row.
    """

    header: Header
    rows: np.ndarray
    lines: list[bytes] | None
    before: bytes
    after: bytes


def read_ply(path: Path, data: bytes | None = None, offset: Sequence[float] | None = None) -> Gaussians:
    """Read a plain splat PLY.

    Args:
        path: The file.
        data: Its bytes, if they were read already.
        offset: The point that positions are counted from; None: the origin, or the middle of a scene whose positions
            are doubles and too far from the origin for float32.

    Raises:
        SceneFormatError: If the file is cut short, lacks a column, or has a number of f_rest columns no SH degree has.
    """
    data = read_bytes(path) if data is None else data
    header = parse_header(data, path)
    vertex = vertex_of(header, path)
    _check_columns(vertex, path)
    rows, lines, start, stop = read_rows(data, header, vertex, path)
    fields = _decode(rows, vertex)
    offset = _count_from(rows, fields, path, offset)
    raw = PlyFile(header, rows, lines, data[header.size : start], data[stop:])
    return finish(
        fields,
        path=path,
        kind="ply",
        file=raw,
        notes={**({"render_mode": "mip"} if mip_filter.COLUMN in vertex.names else {}), **header.notes},
        offset=offset,
    )


def write_ply(gaussians: Gaussians, path: Path) -> None:
    """Write a plain splat PLY; rows that come unchanged from one keep their bytes, others the columns unknown here."""
    kept = origin_file(gaussians, "ply")
    if kept is None:
        names = _standard_names(gaussians.shN.shape[1])
        lines = ["ply", "format binary_little_endian 1.0", *comments_of(gaussians), "element vertex 0"]
        lines += [f"property float {name}" for name in names] + ["end_header"]
        element = Element("vertex", 0, tuple((name, "f4") for name in names), {})
        header = Header(tuple(lines), "binary_little_endian", (element,), 0)
        raw = PlyFile(header, np.zeros(0, header.dtype(element)), None, b"", b"")
        index = np.full(len(gaussians), -1)
    else:
        raw, index = kept
        raw = _with_sh_columns(raw, gaussians.shN.shape[1])
    body = _encode_blocks(raw, index, gaussians, untouched_altered(gaussians) if kept else np.zeros(0, np.int64))
    count = re.compile(r"^element\s+vertex\s+\d+")
    lines = [count.sub(f"element vertex {len(gaussians)}", line) for line in raw.header.lines]
    with open_whole(path) as file:
        file.write((raw.header.newline.join(lines) + raw.header.newline).encode("latin-1"))
        file.write(raw.before)
        for block in body:
            file.write(block)
        file.write(raw.after)


def _count_from(
    rows: np.ndarray, fields: dict[str, Tensor], path: Path, offset: Sequence[float] | None
) -> tuple[float, float, float]:
    """Count the positions from the offset, or from where they need it, since Gaussians are drawn in float32."""
    has_doubles = any(rows.dtype[name].itemsize == 8 for name in _MEANS)
    if not len(rows) or not (has_doubles if offset is None else any(offset)):
        return 0.0, 0.0, 0.0
    positions = np.stack([rows[name] for name in _MEANS], axis=1, dtype=np.float64)
    finite = positions[np.isfinite(positions).all(axis=1)]
    finite = finite if len(finite) else np.zeros((1, 3))
    most = MOST_LOSS * float(fields["log_scales"].nanmedian().exp())
    is_far = offset is None and _largest_loss(finite) > most
    start = np.rint(np.median(finite, axis=0)) if is_far else np.array(offset or (0.0, 0.0, 0.0))
    fields["means"] = torch.from_numpy((positions - start).astype(np.float32))
    x, y, z = map(float, start)
    if is_far:
        loss = _largest_loss(finite - start)
        left = f"; they still lose up to {loss:.2g}, for Gaussians of {most / MOST_LOSS:.2g}" if loss > most else ""
        warn(f"{path}: positions are counted from {x:.0f}, {y:.0f}, {z:.0f}, since float32 cannot hold them; cameras "
             f"and keys are in the file's world, and so is a .ply that is written{left}")  # fmt: skip
    return x, y, z


def _largest_loss(positions: np.ndarray) -> float:
    """By how much float32 rounds the largest coordinate."""
    return float(np.spacing(np.float32(np.abs(positions).max()))) / 2


def _check_columns(vertex: Element, path: Path) -> None:
    names = set(vertex.names)
    colour = _RGB if names.issuperset(_RGB) else _SH0
    missing = [name for name in (*_MEANS, *colour, "opacity", *_SCALES[:2], *_QUATS) if name not in names]
    if missing:
        raise SceneFormatError(
            what=f"{path} has no column {', '.join(missing)}",
            expected="a Gaussian splat PLY: x y z, f_dc_0..2 (or red green blue), opacity, scale_0..2, rot_0..3",
            fix="export it as a Gaussian splat, not as a point cloud or mesh",
        )
    rest = [name for name in vertex.names if re.fullmatch(r"f_rest_\d+", name)]
    if len(rest) not in NUM_REST_COLUMNS or set(rest) != {f"f_rest_{i}" for i in range(len(rest))}:
        raise SceneFormatError(
            what=f"{path} has {len(rest)} f_rest columns",
            expected="0, 9, 24, 45 or 72 of them, f_rest_0 upwards (SH degree 0 to 4)",
            fix="export the splat again with all coefficients of a degree",
        )


def vertex_of(header: Header, path: Path) -> Element:
    """The table of Gaussians or points."""
    vertex = header.element("vertex")
    if vertex is None or vertex.lists:
        raise SceneFormatError(
            what=f"{path} has {'lists in its vertex element' if vertex else 'no vertex element'}",
            expected="one row of numbers per Gaussian or point in an element called vertex",
            fix="export it as a Gaussian splat or point cloud, not as a mesh",
        )
    return vertex


def read_rows(
    data: bytes, header: Header, vertex: Element, path: Path
) -> tuple[np.ndarray, list[bytes] | None, int, int]:
    """The vertex table as records (and lines of text), and where it starts and ends in the file."""
    start = header.size
    for element in header.elements:
        if element is vertex:
            break
        start = _skip(data, start, element, header, path)
    dtype = header.dtype(vertex)
    if header.format != "ascii":
        stop = start + vertex.count * dtype.itemsize
        if stop > len(data):
            raise _ends_early(path, (len(data) - start) // dtype.itemsize, vertex.count, stop, len(data))
        return np.frombuffer(data, dtype, vertex.count, start), None, start, stop
    lines = data[start:].split(b"\n", vertex.count)
    lines, after = lines[: vertex.count], b"" if len(lines) <= vertex.count else lines[vertex.count]
    if len(lines) < vertex.count or (lines and not lines[-1].strip()):
        whole = sum(bool(line.strip()) for line in lines)
        what = f"{path} ends after {whole} of {vertex.count} Gaussians"
        raise cut_short(what, "as many rows as the header promises")
    try:
        numbers = np.array(b" ".join(lines).split(), dtype=np.float64).reshape(vertex.count, len(vertex.columns))
    except ValueError as error:
        raise SceneFormatError(
            what=f"{path} has a row that is not {len(vertex.columns)} numbers",
            expected="one number for every property of the vertex element",
            fix="export the file again",
        ) from error
    rows = np.ascontiguousarray(numbers).view([(name, "f8") for name in vertex.names])[:, 0]
    return rows, lines, start, len(data) - len(after)


def _skip(data: bytes, start: int, element: Element, header: Header, path: Path) -> int:
    """Where a table before ``vertex`` ends."""
    if header.format == "ascii":
        for _ in range(element.count):
            start = data.find(b"\n", start) + 1
            if start == 0:
                raise _ends_early(path, 0, header.vertex.count, len(data) + 1, len(data))
        return start
    if not element.lists:
        return start + element.count * header.dtype(element).itemsize
    order = "<" if header.format == "binary_little_endian" else ">"
    for _ in range(element.count):
        for name, kind in element.columns:
            if name not in element.lists:
                start += np.dtype(kind).itemsize
                continue
            count_type, item_type = element.lists[name]
            size = np.dtype(count_type).itemsize
            if start + size > len(data):
                raise _ends_early(path, 0, header.vertex.count, start + size, len(data))
            length = int(np.frombuffer(data, order + count_type, 1, start)[0])
            start += size + max(length, 0) * np.dtype(item_type).itemsize
    return start


def _ends_early(path: Path, rows: int, promised: int, wanted: int, actual: int) -> SceneFormatError:
    what = f"{path} ends after {max(rows, 0)} of {promised} Gaussians ({actual} bytes)"
    return cut_short(what, f"{wanted} bytes, as the header promises")


def _take(rows: np.ndarray, names: tuple[str, ...] | list[str]) -> Tensor:
    """Columns of a table as float32, owned and contiguous."""
    if names and _is_plain(rows.dtype):
        columns = columns_of(rows)
        matrix = rows.view("<f4").reshape(len(rows), len(columns))
        places = _as_slice([columns.index(name) for name in names])
        return torch.from_numpy(np.array(matrix[:, places], order="C"))
    columns = np.empty((len(rows), len(names)), np.float32)
    for i, name in enumerate(names):
        columns[:, i] = rows[name]
    return torch.from_numpy(columns)


def _take_rest(rows: np.ndarray, num_columns: int) -> Tensor:
    """(n K 3) higher coefficients from channel-major columns; block by block, so that a block stays in the cache."""
    shN = torch.empty(len(rows), num_columns // 3, 3)
    names = [f"f_rest_{i}" for i in range(num_columns)]
    for start in range(0, len(rows) if names else 0, _BLOCK):
        block = _take(rows[start : start + _BLOCK], names)
        shN[start : start + _BLOCK] = block.reshape(len(block), 3, num_columns // 3).transpose(1, 2)
    return shN


def _decode(rows: np.ndarray, vertex: Element) -> dict[str, Tensor]:
    names = vertex.names
    num_rest = sum(name.startswith("f_rest_") for name in names)
    if "f_dc_0" in names:
        sh0 = _take(rows, _SH0)
    else:
        white = white_of(rows, vertex)
        sh0 = torch.from_numpy(np.stack([_sh0_of_colour(rows[name], white) for name in _RGB], axis=1))
    log_scales = _take(rows, [name for name in _SCALES if name in names])
    if log_scales.shape[1] == 2:
        log_scales = torch.nn.functional.pad(log_scales, (0, 1), value=FLAT_LOG_SCALE)
    logits = _take(rows, ("opacity",))[:, 0]
    if mip_filter.COLUMN in names:
        pair = mip_filter.filtered(log_scales.numpy(), logits.numpy(), _take(rows, [mip_filter.COLUMN])[:, 0].numpy())
        log_scales, logits = map(torch.from_numpy, pair)
    return {
        "means": _take(rows, _MEANS),
        "log_scales": log_scales,
        "raw_quats": _take(rows, _QUATS),
        "logit_opacities": logits,
        "sh0": sh0[:, None],
        "shN": _take_rest(rows, num_rest),
    }


def _as_stored(rows: np.ndarray, index: np.ndarray, gaussians: Gaussians) -> dict[str, np.ndarray]:
    """The arrays of a scene as a file like this one stores them.

    Where it has a smoothing filter, Gaussians keep what is stored while their size and opacity are as they were read;
    the others are drawn as they are, with a filter of 0.
    """
    arrays = as_arrays(gaussians)
    if mip_filter.COLUMN not in columns_of(rows):
        return arrays
    places = (index >= 0).nonzero()[0]
    stored = rows[index[places]]
    scales, logits = _take(stored, _SCALES).numpy(), _take(stored, ("opacity",))[:, 0].numpy()
    deviations = _take(stored, [mip_filter.COLUMN])[:, 0].numpy()
    read = mip_filter.filtered(scales, logits, deviations)
    now = arrays["log_scales"][places], arrays["logit_opacities"][places]
    is_same = same_rows(now[0], read[0]) & same_rows(now[1], read[1])
    arrays |= {name: arrays[name].copy() for name in ("log_scales", "logit_opacities")}
    arrays[mip_filter.COLUMN] = np.zeros(len(index), np.float32)
    for name, values in (("log_scales", scales), ("logit_opacities", logits), (mip_filter.COLUMN, deviations)):
        arrays[name][places[is_same]] = values[is_same]
    return arrays


def _columns(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every column a splat PLY may have, as float32, from the parameters as they are stored."""
    rest = arrays["shN"].transpose(2, 1, 0).reshape(3 * arrays["shN"].shape[1], len(arrays["means"]))
    filters = {name: arrays[name] for name in (mip_filter.COLUMN,) if name in arrays}
    columns = {
        "opacity": arrays["logit_opacities"],
        **filters,
        **{f"f_rest_{i}": column for i, column in enumerate(rest)},
    }
    groups = ((_MEANS, "means"), (_SCALES, "log_scales"), (_QUATS, "raw_quats"))
    for names, values in [(names, arrays[field]) for names, field in groups] + [(_SH0, arrays["sh0"][:, 0])]:
        columns |= dict(zip(names, values.T, strict=True))
    return columns


def _standard_names(num_rest: int) -> list[str]:
    rest = [f"f_rest_{i}" for i in range(3 * num_rest)]
    return [*_MEANS, "nx", "ny", "nz", *_SH0, *rest, "opacity", *_SCALES, *_QUATS]


def _with_sh_columns(raw: PlyFile, num_rest: int) -> PlyFile:
    """The same file with as many f_rest columns as the Gaussians have now; unchanged if that is so already."""
    vertex = raw.header.vertex
    has = sum(name.startswith("f_rest_") for name in vertex.names)
    if has == 3 * num_rest:
        return raw
    anchor = "f_dc_2" if "f_dc_2" in vertex.names else "blue"
    kind = "f8" if raw.lines is not None else vertex.columns[0][1]
    columns, lines = [], []
    for name, column_kind in vertex.columns:
        if not name.startswith("f_rest_"):
            columns.append((name, column_kind))
        if name == anchor:
            columns += [(f"f_rest_{i}", kind) for i in range(3 * num_rest)]
    word = "double" if vertex.columns[0][1] == "f8" else "float"
    for line in raw.header.lines:
        if not re.match(r"property\s+\S+\s+f_rest_\d+$", line):
            lines.append(line)
        if re.match(rf"property\s+\S+\s+{anchor}$", line):
            lines += [f"property {word} f_rest_{i}" for i in range(3 * num_rest)]
    elements = tuple(Element("vertex", e.count, tuple(columns), {}) if e is vertex else e for e in raw.header.elements)
    header = Header(tuple(lines), raw.header.format, elements, 0, raw.header.newline)
    dtype = header.dtype(header.vertex)
    if raw.lines is not None:
        dtype = np.dtype([(name, "f8") for name, _ in columns])
    rows = np.zeros(len(raw.rows), dtype)
    for name in columns_of(rows):
        if name in columns_of(raw.rows) and not name.startswith("f_rest_"):
            rows[name] = raw.rows[name]
    lines_of_text = None if raw.lines is None else [_text_of(row) for row in rows]
    return PlyFile(header, rows, lines_of_text, raw.before, raw.after)


def _encode_blocks(raw: PlyFile, index: np.ndarray, gaussians: Gaussians, kept: np.ndarray) -> Iterator[bytes]:
    """The rows to write, piece by piece; those at ``kept`` are the raw rows of the file read."""
    if _is_plain(raw.rows.dtype) and "f_dc_0" in columns_of(raw.rows) and not any(gaussians.offset):
        yield from _encode_plain(raw.rows, index, gaussians, kept)
        return
    rows = _encode_rows(raw, index, gaussians)
    rows[kept] = raw.rows[index[kept]]
    yield rows.tobytes() if raw.lines is None else _encode_text(raw, raw.lines, index, rows)


def _encode_rows(raw: PlyFile, index: np.ndarray, gaussians: Gaussians) -> np.ndarray:
    """Rows of any number types: old rows with every changed value replaced, zeros in unknown columns of new rows."""
    values = _columns(_as_stored(raw.rows, index, gaussians))
    rows, is_old = np.zeros(len(index), raw.rows.dtype), index >= 0
    names, white = columns_of(rows), white_of(raw.rows, raw.header.vertex)
    starts = dict(zip(_MEANS, gaussians.offset, strict=True))
    for name in names:
        column = rows[name]
        column[is_old] = raw.rows[name][index[is_old]]
        if name in values:
            start = np.float64(starts.get(name, 0.0))
            changed = ~same_rows((column - start if start else column).astype(np.float32), values[name])
            column[changed] = values[name][changed] + start if start else values[name][changed]
        elif "f_dc_0" not in names and name in _RGB:
            sh0 = values[f"f_dc_{_RGB.index(name)}"]
            changed = ~same_rows(_sh0_of_colour(column, white), sh0) | ~is_old
            colours = np.clip((0.5 + C0 * sh0[changed]) * white, 0, white)
            column[changed] = colours if white == 1 else np.rint(colours)
    return rows


def _is_plain(dtype: np.dtype) -> bool:
    """Whether a row is nothing but little-endian floats, as in nearly every file."""
    return all(dtype[name] == np.dtype("<f4") for name in dtype.names or ())


def _encode_plain(old: np.ndarray, index: np.ndarray, gaussians: Gaussians, kept: np.ndarray) -> Iterator[bytes]:
    """Rows of floats: the same bits where nothing changed. Block by block, so that a block stays in the cache."""
    names, arrays = columns_of(old), _as_stored(old, index, gaussians)
    num_rest = arrays["shN"].shape[1]
    groups = [(_MEANS, "means"), (_SCALES, "log_scales"), (_QUATS, "raw_quats"), (("opacity",), "logit_opacities"),
              (_SH0, "sh0"), (tuple(f"f_rest_{i}" for i in range(3 * num_rest)), "shN"),
              *[((name,), name) for name in arrays if name == mip_filter.COLUMN]]  # fmt: skip
    places = [([names.index(name) for name in group if name in names], field) for group, field in groups]
    extra = sorted(set(range(len(names))) - {place for group, _ in places for place in group})
    stored = old.view("<f4").reshape(len(old), len(names))
    block = np.zeros((min(_BLOCK, len(index)), len(names)), "<f4")
    for start in range(0, len(index), _BLOCK):
        rows = index[start : start + _BLOCK]
        block = block[: len(rows)]
        for group, field in places:
            part = arrays[field][start : start + _BLOCK]
            part = part.transpose(0, 2, 1) if field == "shN" else part
            if group:
                block[:, _as_slice(group)] = part.reshape(len(rows), part.size // len(rows))[:, : len(group)]
        if extra and len(old):
            block[:, extra] = np.where(rows[:, None] >= 0, stored[np.maximum(rows, 0)[:, None], extra], 0)
        for place in kept[(kept >= start) & (kept < start + _BLOCK)]:
            block[place - start] = stored[index[place]]
        yield block.tobytes()


def _as_slice(places: list[int]) -> slice | list[int]:
    """Neighbouring columns as a slice, which copies faster."""
    is_run = places == list(range(places[0], places[0] + len(places)))
    return slice(places[0], places[0] + len(places)) if is_run else places


def white_of(rows: np.ndarray, vertex: Element) -> int:
    """What stands for full brightness in the columns red, green and blue: 1 where they are floats of at most that.

    Args:
        rows: The table.
        vertex: Its columns; those of 16 bits have 65535.
    """
    kinds = {kind for name, kind in vertex.columns if name in _RGB}
    if kinds & {"f4", "f8"} and all((rows[name] <= 1).all() for name in _RGB if name in vertex.names):
        return 1
    return 65535 if kinds & {"u2", "i2"} else 255


def _sh0_of_colour(column: np.ndarray, white: int) -> np.ndarray:
    """Degree-0 coefficients of colours."""
    return (column.astype(np.float32) / np.float32(white) - np.float32(0.5)) / np.float32(C0)


def _encode_text(raw: PlyFile, old_lines: list[bytes], index: np.ndarray, rows: np.ndarray) -> bytes:
    """ASCII rows: the old text of every number that did not change."""
    lines = []
    for place, old in enumerate(index):
        if old < 0:
            lines.append(_text_of(rows[place]))
        elif rows[place].tobytes() == raw.rows[old].tobytes():
            lines.append(old_lines[old])
        else:
            words = old_lines[old].split()
            for column, name in enumerate(columns_of(rows)):
                if rows[name][place] != raw.rows[name][old]:
                    words[column] = _number(rows[name][place])
            lines.append(b" ".join(words))
    return b"".join(line + b"\n" for line in lines)


def _text_of(row: np.void) -> bytes:
    return b" ".join(_number(value) for value in row)


def _number(value: float) -> bytes:
    """A text that reads back as the same number."""
    return (b"%d" % int(value)) if value == int(value) and abs(value) < 1e9 else repr(float(value)).encode()
