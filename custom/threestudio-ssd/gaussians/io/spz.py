"""``.spz`` (Niantic), versions 1 to 4: one array of fixed-size rows per field, compressed.

Versions 1-3 are one gzip stream; version 4 has a plain header and one zstd stream per array. Positions are 24-bit fixed
point, opacities, colours, log scales and SH coefficients 8 bits. Coordinates are taken and written as they stand, as
the reference library does unless told otherwise; files that were turned to SPZ's own frame need a half turn about x
(``gaussians.transform.half_turn_x``).
"""

import gzip
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import SceneFormatError
from ...files import open_whole
from ...reading import check_rows, check_unpacked, inflate
from ..model import Gaussians
from .common import as_arrays, cut_short, finish, logits_of, optional_package, origin_file, read_bytes, warn
from .packed import Sections, keep_untouched, sigmoid, to_bytes
from .quats import pack_smallest_three, unpack_smallest_three

MAGIC = 0x5053474E
WRITTEN_VERSION = 3
FRACTION_BITS = 12
COLOR_SCALE = 0.15
MAX_EXTENSIONS = 1 << 20
"""Bytes behind the rows that are kept."""
_HEADER = 16
_ORDER = ("means", "logit_opacities", "sh0", "log_scales", "raw_quats", "shN")
_IS_ANTIALIASED = 1


@dataclass(frozen=True, eq=False)
class SpzFile:
    """What an SPZ file held: its header and the rows of every array."""

    version: int
    sh_degree: int
    fraction_bits: int
    flags: int
    sections: Sections
    extensions: bytes = b""


def read_spz(path: Path) -> Gaussians:
    """Read an ``.spz`` file of version 1 to 4.

    Raises:
        SceneFormatError: If the file is damaged, cut short, or of another version.
        MissingPackageError: If it is version 4 and the package zstandard is not installed.
    """
    data = read_bytes(path)
    try:
        raw = _read_streams(data, path) if data[:4] == b"NGSP" else _read_gzip(data, path)
    except (zlib.error, gzip.BadGzipFile, EOFError, struct.error) as error:
        what = f"{path} cannot be unpacked ({error or type(error).__name__})"
        raise cut_short(what, "an SPZ file, which starts with a gzip stream or 'NGSP'", or_other=True) from error
    notes = {"render_mode": "antialiased"} if raw.flags & _IS_ANTIALIASED else {}
    return finish(decode(raw), path=path, kind="spz", file=raw, notes=notes)


def write_spz(gaussians: Gaussians, path: Path, version: int | None = None) -> None:
    """Write an ``.spz`` file. SH keeps 8 bits and is clipped to -1..0.992.

    Args:
        gaussians: The scene.
        path: Where to.
        version: 1 to 4; None: that of the file read, else 3.
    """
    values = as_arrays(gaussians)
    kept = origin_file(gaussians, "spz")
    old, index = kept if kept is not None else (None, np.zeros(0, np.int64))
    if old is not None and version is not None and _is_coded_otherwise(old.version, version):
        old = None
    flags, extensions = (old.flags, old.extensions) if old else (_IS_ANTIALIASED * gaussians.is_antialiased, b"")
    if version is None:
        version = int(old.version) if old else WRITTEN_VERSION
    bits = old.fraction_bits if old else FRACTION_BITS
    largest = float(np.abs(values["means"]).max(initial=0.0))
    while bits > 0 and version > 1 and largest >= 2.0 ** (23 - bits):
        bits -= 1
    if old and bits != old.fraction_bits:
        warn(f"{path}: a Gaussian lies beyond the file's old range; all positions were rounded anew")
    clipped = int((np.abs(values["shN"]) > 1).any(axis=(1, 2)).sum()) if values["shN"].size else 0
    encoded = encode(values, version, bits)
    positions = encoded["means"].copy()
    raw = SpzFile(version, gaussians.sh_degree, bits, flags, encoded, extensions)
    if old is not None:
        merged = keep_untouched(
            gaussians, encoded, old.sections, index, lambda part: decode(replace(old, sections=part))
        )
        merged["means"] = merged["means"] if bits == old.fraction_bits else positions
        raw = replace(raw, sections=merged)
    elif clipped:
        warn(f"{path}: .spz holds SH coefficients from -1 to 1; those of {clipped} Gaussians were clipped")
    with open_whole(path) as file:
        file.write(_streams(raw) if version == 4 else _gzip(raw))


def _is_coded_otherwise(old: int, new: int) -> bool:
    """Whether rows of two versions differ: positions since version 2, rotations since 3; extensions in version 4."""
    return (old >= 2, old >= 3, old == 4) != (new >= 2, new >= 3, new == 4)


def decode(raw: SpzFile) -> dict[str, np.ndarray]:
    """Values of rows."""
    sections = raw.sections
    count = len(sections["means"])
    if raw.version == 1:
        means = np.ascontiguousarray(sections["means"]).view("<f2").astype(np.float32).reshape(count, 3)
    else:
        triples = sections["means"].reshape(count, 3, 3).astype(np.int32)
        fixed = triples[..., 0] | triples[..., 1] << 8 | triples[..., 2] << 16
        means = (fixed - ((fixed & 0x800000) << 1)).astype(np.float32) * np.float32(2.0**-raw.fraction_bits)
    return {
        "means": means,
        "log_scales": sections["log_scales"].astype(np.float32) / 16 - 10,
        "raw_quats": _unpack_quats(sections["raw_quats"], raw.version),
        "logit_opacities": logits_of(sections["logit_opacities"][:, 0].astype(np.float64) / 255),
        "sh0": ((sections["sh0"].astype(np.float64) / 255 - 0.5) / COLOR_SCALE).astype(np.float32),
        "shN": (sections["shN"].astype(np.float32) - 128).reshape(count, sections["shN"].shape[1] // 3, 3) / 128,
    }


def encode(values: Sections, version: int, fraction_bits: int) -> dict[str, np.ndarray]:
    """Rows of values, rounded to the nearest and clipped to what a row can hold."""
    means, count = values["means"].astype(np.float64), len(values["means"])
    if version == 1:
        positions = means.astype("<f2").view(np.uint8).reshape(count, 6)
    else:
        fixed = np.clip(np.rint(means * 2.0**fraction_bits), -(2**23), 2**23 - 1).astype(np.int32)
        positions = np.stack([fixed & 255, fixed >> 8 & 255, fixed >> 16 & 255], axis=-1).astype(np.uint8)
    return {
        "means": positions.reshape(count, 6 if version == 1 else 9),
        "logit_opacities": to_bytes(sigmoid(values["logit_opacities"]) * 255)[:, None],
        "sh0": to_bytes((values["sh0"][:, 0].astype(np.float64) * COLOR_SCALE + 0.5) * 255),
        "log_scales": to_bytes((values["log_scales"].astype(np.float64) + 10) * 16),
        "raw_quats": _pack_quats(values["raw_quats"], version),
        "shN": to_bytes(values["shN"].reshape(count, 3 * values["shN"].shape[1]) * np.float32(128) + 128),
    }


def _unpack_quats(rows: np.ndarray, version: int) -> np.ndarray:
    if version < 3:
        xyz = rows.astype(np.float32) / np.float32(127.5) - 1
        w = np.sqrt(np.maximum(0, 1 - (xyz**2).sum(axis=1, keepdims=True)))
        return np.concatenate([w, xyz], axis=1)
    packed = np.ascontiguousarray(rows).view("<u4")[:, 0]
    shifts = (20, 10, 0)
    thirds = np.stack([packed >> shift & 1023 for shift in shifts], axis=1)
    smallest = (thirds & 511) * np.where(thirds & 512, -1.0, 1.0) / 511 * np.sqrt(0.5)
    return unpack_smallest_three(smallest, packed >> 30)[:, [3, 0, 1, 2]]  # stored x y z w


def _pack_quats(quats: np.ndarray, version: int) -> np.ndarray:
    if version < 3:
        unit = quats / np.linalg.norm(quats, axis=1, keepdims=True)
        unit = unit * np.where(unit[:, :1] < 0, -1, 1)
        return to_bytes(unit[:, 1:] * 127.5 + 127.5)
    smallest, largest = pack_smallest_three(quats[:, [1, 2, 3, 0]])
    thirds = np.clip(np.rint(np.abs(smallest) * np.sqrt(2) * 511), 0, 511).astype(np.uint32)
    thirds |= (smallest < 0).astype(np.uint32) << 9
    packed = largest.astype(np.uint32) << 30 | thirds[:, 0] << 20 | thirds[:, 1] << 10 | thirds[:, 2]
    return packed.astype("<u4").view(np.uint8).reshape(-1, 4)


def _widths(version: int, sh_degree: int) -> dict[str, int]:
    rest = (sh_degree + 1) ** 2 - 1
    widths = (6 if version == 1 else 9, 1, 3, 3, 3 if version < 3 else 4, 3 * rest)
    return dict(zip(_ORDER, widths, strict=True))


def _check(version: int, sh_degree: int, path: Path) -> None:
    if not 1 <= version <= 4 or sh_degree > 4:
        raise SceneFormatError(
            what=f"{path} is SPZ version {version} with SH degree {sh_degree}",
            expected="version 1 to 4, SH degree 0 to 4",
            fix="save it with an SPZ program of today, or as .ply",
        )


def _read_gzip(data: bytes, path: Path) -> SpzFile:
    packed = data
    data = inflate(packed, _HEADER)
    magic, version, count, sh_degree, fraction_bits, flags, _ = struct.unpack_from("<IIIBBBB", data)
    if magic != MAGIC:
        raise SceneFormatError(
            what=f"{path} unpacks to something that starts with {data[:4]!r}",
            expected="an SPZ file ('NGSP')",
            fix="give the file the suffix of its real format",
        )
    _check(version, sh_degree, path)
    check_rows(path, count, len(packed))
    widths = _widths(version, sh_degree)
    size = _HEADER + count * sum(widths.values()) + MAX_EXTENSIONS
    check_unpacked(path, size, len(packed))
    data = inflate(packed, size)
    if len(data) == size:
        raise EOFError(f"more than {MAX_EXTENSIONS} bytes follow its rows")
    offset, sections = _HEADER, {}
    for name, width in widths.items():
        end = offset + count * width
        if end > len(data):
            raise _lacks(path, name, count)
        sections[name] = np.frombuffer(data, np.uint8, count * width, offset).reshape(count, width)
        offset = end
    return SpzFile(version, sh_degree, fraction_bits, flags, sections, data[offset:])


def _read_streams(data: bytes, path: Path) -> SpzFile:
    _, version, count, sh_degree, fraction_bits, flags, num_streams, table = struct.unpack_from("<IIIBBBBI", data)
    _check(version, sh_degree, path)
    check_rows(path, count, len(data))
    sizes = struct.unpack_from(f"<{2 * num_streams}Q", data, table)
    offset, streams = table + 16 * num_streams, []
    zstandard = _zstandard()
    widths = _widths(version, sh_degree)
    for packed, width in zip(sizes[::2], widths.values(), strict=False):
        try:
            stream = data[offset : offset + packed]
            check_unpacked(path, zstandard.frame_content_size(stream), len(stream))
            streams.append(zstandard.ZstdDecompressor().decompress(stream, max(count * width, 1)))
        except zstandard.ZstdError as error:
            raise EOFError(str(error)) from error
        offset += packed
    sections = {}
    for place, (name, width) in enumerate(widths.items()):
        stream = streams[place] if place < len(streams) else b""
        if len(stream) != count * width:
            raise _lacks(path, name, count)
        sections[name] = np.frombuffer(stream, np.uint8).reshape(count, width)
    return SpzFile(version, sh_degree, fraction_bits, flags, sections, data[32:table])


def _lacks(path: Path, name: str, count: int) -> SceneFormatError:
    what = f"{path} does not hold {name} for all of its {count} Gaussians"
    return cut_short(what, "one row for every Gaussian the header promises")


def _gzip(raw: SpzFile) -> bytes:
    count = len(raw.sections["means"])
    header = struct.pack("<IIIBBBB", MAGIC, raw.version, count, raw.sh_degree, raw.fraction_bits, raw.flags, 0)
    body = b"".join(np.ascontiguousarray(raw.sections[name]).tobytes() for name in _ORDER)
    return gzip.compress(header + body + raw.extensions, compresslevel=6, mtime=0)


def _streams(raw: SpzFile) -> bytes:
    compressor = _zstandard().ZstdCompressor(level=9)
    plain = [np.ascontiguousarray(raw.sections[name]).tobytes() for name in _ORDER]
    plain = [stream for stream in plain if stream or not len(raw.sections["means"])]
    packed = [compressor.compress(stream) for stream in plain]
    count, table = len(raw.sections["means"]), 32 + len(raw.extensions)
    header = struct.pack(
        "<IIIBBBBI12x", MAGIC, raw.version, count, raw.sh_degree, raw.fraction_bits, raw.flags, len(plain), table
    )
    sizes = [size for a, b in zip(packed, plain, strict=True) for size in (len(a), len(b))]
    return header + raw.extensions + struct.pack(f"<{len(sizes)}Q", *sizes) + b"".join(packed)


def _zstandard() -> Any:
    return optional_package("zstandard", "SPZ version 4", "zstandard")
