"""``.ksplat`` (GaussianSplats3D) version 0.1, compression levels 0 to 2: reading only; the format is fading.

A 4096-byte header, one 1024-byte header per section, then per section the lengths of its partly filled buckets, the
bucket centres, and the rows. Levels 1 and 2 store positions relative to the centre of their bucket.
"""

import struct
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...errors import SceneFormatError
from ..model import FIELD_NAMES, Gaussians
from ..sh import C0
from .common import finish, logits_of, read_bytes

_HEADER, _SECTION_HEADER = 4096, 1024
_NUM_REST = {0: 0, 1: 9, 2: 24}


@dataclass(frozen=True)
class _Section:
    count: int
    max_count: int
    bucket_size: int
    num_buckets: int
    block_size: float
    scale_range: int
    num_full: int
    num_partial: int
    sh_degree: int


def read_ksplat(path: Path) -> Gaussians:
    """Read a ``.ksplat`` file; sections with different SH degrees get the highest, padded with zeros.

    Raises:
        SceneFormatError: If the version or level is unknown, or the file is cut short.
    """
    data = read_bytes(path)
    if len(data) < _HEADER or data[0] != 0 or data[1] < 1:
        version = f"version {data[0]}.{data[1]}" if len(data) >= 2 else "no version"
        raise SceneFormatError(
            what=f"{path} has {len(data)} bytes and {version}",
            expected="a KSPLAT file of version 0.1: a header of 4096 bytes, then rows",
            fix="export the splat as .ply instead",
        )
    max_sections, num_sections = struct.unpack_from("<II", data, 4)
    level = struct.unpack_from("<H", data, 20)[0]
    low, high = struct.unpack_from("<ff", data, 36)
    if level > 2:
        raise SceneFormatError(
            what=f"{path} has compression level {level}", expected="0, 1 or 2", fix="export the splat as .ply instead"
        )
    sh_range = (low or -1.5, high or 1.5)
    no_rows = np.zeros(0, _row_dtype(0, 0))
    parts = [_decode(no_rows, np.zeros((0, 3)), _Section(0, 0, 0, 0, 1.0, 1, 0, 0, 0), 0, sh_range)]
    offset = _HEADER + max_sections * _SECTION_HEADER
    try:
        for number in range(num_sections):
            section = _section(data, _HEADER + number * _SECTION_HEADER, level)
            rows, centers, offset = _rows(data, offset, section, level)
            parts.append(_decode(rows, centers, section, level, sh_range))
    except (struct.error, ValueError, KeyError) as error:
        raise SceneFormatError(
            what=f"{path} is cut short or damaged ({error})",
            expected="all the rows that its header promises",
            fix="copy or download the file again, or export the splat as .ply",
        ) from error
    width = max(part["shN"].shape[1] for part in parts)
    for part in parts:
        part["shN"] = np.pad(part["shN"], ((0, 0), (0, width - part["shN"].shape[1]), (0, 0)))
    values = {name: np.concatenate([part[name] for part in parts]) for name in FIELD_NAMES}
    return finish(values, path=path, kind="ksplat", file=None)


def _section(data: bytes, start: int, level: int) -> _Section:
    section = _Section(*struct.unpack_from("<IIIIf4xI4xIIH", data, start))
    return replace(section, scale_range=section.scale_range or (1 if level == 0 else 32767))


def _row_dtype(level: int, sh_degree: int) -> np.dtype:
    number, position = ("<f4", "<f4") if level == 0 else ("<f2", "<u2")
    return np.dtype([
        ("position", position, 3), ("scale", number, 3), ("rotation", number, 4), ("color", "u1", 4),
        ("sh", "u1" if level == 2 else number, _NUM_REST[sh_degree]),
    ])  # fmt: skip


def _rows(data: bytes, offset: int, section: _Section, level: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Rows of a section with the centre of each row's bucket, and where the next section starts."""
    lengths = np.frombuffer(data, "<u4", section.num_partial, offset)
    offset += 4 * section.num_partial
    centers = np.frombuffer(data, "<f4", 3 * section.num_buckets, offset).reshape(-1, 3)
    offset += 12 * section.num_buckets
    dtype = _row_dtype(level, section.sh_degree)
    if section.count > section.max_count:
        raise ValueError(f"{section.count} Gaussians in room for {section.max_count}")
    rows = np.frombuffer(data, dtype, section.count, offset)
    per_row = np.zeros((section.count, 3))
    if level > 0:
        if section.num_full + section.num_partial > len(centers):
            raise ValueError(f"{section.num_full + section.num_partial} buckets with {len(centers)} centres")
        sizes = np.concatenate([np.full(section.num_full, section.bucket_size), lengths]).astype(np.int64)
        ends = np.cumsum(sizes)
        if section.count > (ends[-1] if len(ends) else 0):
            raise ValueError(f"{ends[-1] if len(ends) else 0} rows in buckets for {section.count} Gaussians")
        per_row = centers[np.searchsorted(ends, np.arange(section.count), side="right")]
    return rows, per_row, offset + section.max_count * dtype.itemsize


def _decode(
    rows: np.ndarray, centers: np.ndarray, section: _Section, level: int, sh_range: tuple[float, float]
) -> dict[str, np.ndarray]:
    means = rows["position"].astype(np.float64)
    if level > 0:
        means = (means - section.scale_range) * (section.block_size / 2 / section.scale_range) + centers
    with np.errstate(divide="ignore"):
        log_scales = np.log(np.maximum(rows["scale"].astype(np.float64), 1e-12))
    colors = rows["color"].astype(np.float64) / 255
    sh = rows["sh"].astype(np.float64).reshape(len(rows), _NUM_REST[section.sh_degree])
    if level == 2:
        sh = sh_range[0] + sh / 255 * (sh_range[1] - sh_range[0])
    parts, start = [np.zeros((len(rows), 0, 3))], 0
    for degree in range(1, section.sh_degree + 1):  # per degree: all red, all green, all blue
        width = 2 * degree + 1
        parts.append(sh[:, start : start + 3 * width].reshape(-1, 3, width).transpose(0, 2, 1))
        start += 3 * width
    return {
        "means": means, "log_scales": log_scales, "raw_quats": rows["rotation"].astype(np.float64),
        "logit_opacities": logits_of(colors[:, 3]), "sh0": (colors[:, :3] - 0.5) / C0, "shN": np.concatenate(parts, 1),
    }  # fmt: skip
