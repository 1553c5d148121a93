"""``.sog`` (PlayCanvas): a zip, or a folder, of lossless WebP images and a ``meta.json``; pixel i is Gaussian i.

Positions are 16 bits of sign(x) ln(1 + |x|), rotations 8 bits of the three smallest components, scales and colours
indices into codebooks of 256 numbers, higher SH coefficients an index into a palette of whole sets. Reads versions 1
and 2, writes 2. Gaussians read from a SOG and not edited keep their indices; new values use free codebook entries and
new palette rows.
"""

import io
import json
import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import MissingPackageError, SceneFormatError, first_line
from ...files import open_whole
from ...reading import MAX_PHOTOGRAPH, check_rows, check_unpacked, open_image
from ..model import Gaussians
from .codebook import PALETTE_LIMIT, SIZE, assign, fit_codebook, fit_palette, nearest, refit_free_entries
from .common import (
    as_arrays,
    cut_short,
    finish,
    logits_of,
    optional_package,
    origin_file,
    read_bytes,
    render_mode,
    same_rows,
    warn,
)  # fmt: skip
from .packed import Sections, keep_untouched, sigmoid, to_bytes
from .quats import pack_smallest_three, unpack_smallest_three

PALETTE_SIZE = 16384
"""Most SH palette rows written for a scene from another format; a scene read from SOG may grow to 65,536."""
MAX_LOG_POSITION = 88.0
"""Beyond it, exp(x) - 1 is no float32."""
_PALETTE_COLUMNS = 64
_QUAT_TAG = 252
_BROKEN_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
"""What a damaged or encrypted archive, or one packed in an unusual way, raises."""


@dataclass(frozen=True, eq=False)
class SogFile:
    """What a SOG held.

    Attributes:
        version: 1 or 2.
        limits: (2 3) least and greatest position after sign(x) ln(1 + |x|).
        scales: (3 256) log scale of every index and axis.
        sh0: (3 256) coefficient of every index and channel.
        logits: (256) opacity logit of every byte.
        palette: (p K 3) bytes of the SH palette; K = 0 without.
        rest: (256) coefficient of every palette byte.
        sections: Bytes of every field: positions low then high, labels low then high.
        notes: What the file says about its renderer.
    """

    version: int
    limits: np.ndarray
    scales: np.ndarray
    sh0: np.ndarray
    logits: np.ndarray
    palette: np.ndarray
    rest: np.ndarray
    sections: Sections
    notes: Mapping[str, str]


def read_sog(path: Path) -> Gaussians:
    """Read a ``.sog`` file, the folder of its parts, or the ``meta.json`` in it.

    Raises:
        SceneFormatError: If a part is missing or damaged, or it is a streamed SOG (``lod-meta.json``).
        MissingPackageError: If Pillow is not installed.
    """
    parts = _parts(path)
    try:
        meta = json.loads(parts("meta.json"))
        raw = _read(meta, parts, path)
    except (SceneFormatError, MissingPackageError):
        raise
    except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError, AttributeError) as error:
        raise SceneFormatError(
            what=f"{path} has a meta.json that cannot be used ({type(error).__name__}: {first_line(error)})",
            expected="SOG version 1 or 2",
            fix="export it again, or as .ply",
        ) from error
    return finish(decode(raw, raw.sections), path=path, kind="sog", file=raw, notes=raw.notes)


def write_sog(gaussians: Gaussians, path: Path) -> None:
    """Write a ``.sog`` zip of version 2; SH degree 4 is cut to 3, which is all the format has."""
    if gaussians.sh_degree > 3:
        warn(f"{path}: .sog holds SH degree 0 to 3; degree {gaussians.sh_degree} was cut")
        gaussians = gaussians.with_sh_degree(3)
    values, kept = as_arrays(gaussians), origin_file(gaussians, "sog")
    if kept is not None and kept[0].version == 2 and kept[0].palette.shape[1] == values["shN"].shape[1]:
        raw = _edited(gaussians, values, *kept, path)
    else:
        raw = replace(_fresh(values), notes=_notes(gaussians))
    meta, images = _images(raw)
    stamp = (1980, 1, 1, 0, 0, 0)
    with open_whole(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, pixels in images.items():
            archive.writestr(zipfile.ZipInfo(name, stamp), _webp(pixels))
        archive.writestr(zipfile.ZipInfo("meta.json", stamp), json.dumps(meta))


def _notes(gaussians: Gaussians) -> dict[str, str]:
    mode = "antialiased" if gaussians.is_antialiased else render_mode(gaussians)
    return {} if mode is None else {"render_mode": mode}


def decode(raw: SogFile, sections: Sections) -> dict[str, np.ndarray]:
    """Values of rows."""
    low, high = raw.limits[0], raw.limits[1]
    halves = sections["means"].astype(np.uint16)
    coded = low + (high - low) * ((halves[:, 3:] << 8 | halves[:, :3]) / 65535)
    axes = np.arange(3)
    smallest = (sections["raw_quats"][:, :3] / 255 * 2 - 1) * math.sqrt(0.5)
    largest = np.clip(sections["raw_quats"][:, 3].astype(int) - _QUAT_TAG, 0, 3)
    labels = sections["shN"].astype(np.int64)
    palette = raw.rest[raw.palette] if raw.palette.size else np.zeros((1, 0, 3), np.float32)
    label = labels[:, 0] + 256 * labels[:, 1] if labels.shape[1] else np.zeros(len(labels), np.int64)
    return {
        "means": (np.sign(coded) * np.expm1(np.abs(coded))).astype(np.float32),
        "log_scales": raw.scales[axes, sections["log_scales"]],
        "raw_quats": unpack_smallest_three(smallest, largest),
        "logit_opacities": raw.logits[sections["logit_opacities"][:, 0]],
        "sh0": raw.sh0[axes, sections["sh0"]],
        "shN": palette[label],
    }


def _parts(path: Path):
    """A function that gives the bytes of a part by name."""
    folder = path if path.is_dir() else path.parent if path.name == "meta.json" else None
    if folder is not None and not (folder / "meta.json").is_file():
        streamed = (folder / "lod-meta.json").is_file()
        raise SceneFormatError(
            what=f"{folder} is {'a streamed SOG (lod-meta.json)' if streamed else 'a folder without meta.json'}",
            expected="a splat file, or a folder with the meta.json of a SOG",
            fix="name one of its level folders" if streamed else "name the splat file itself",
        )
    archive, place = None, folder or path
    if folder is None:
        try:
            archive = zipfile.ZipFile(io.BytesIO(read_bytes(path)))
        except (*_BROKEN_ZIP, EOFError) as error:
            what = f"{path} is no zip archive ({error})"
            raise cut_short(what, "a SOG: a zip of meta.json and WebP images", or_other=True) from error

    def part(name: str) -> bytes:
        try:
            if archive is not None:
                entry = archive.getinfo(name)
                check_unpacked(path, entry.file_size, entry.compress_size)
                return archive.read(entry)
            if Path(name).name != name or not (place / name).is_file():  # only its own files, and no device
                raise KeyError(name)
            return (place / name).read_bytes()
        except SceneFormatError:
            raise
        except (KeyError, OSError, EOFError, TypeError, *_BROKEN_ZIP) as error:
            raise SceneFormatError(
                what=f"{path} has no readable part {str(name)[:100]}",
                expected="all the images that meta.json names",
                fix="copy or download the splat again",
            ) from error

    return part


def _num_bytes(path: Path) -> int:
    """Size of an archive, or of all files in a folder of parts."""
    folder = path if path.is_dir() else path.parent if path.name == "meta.json" else None
    return sum(each.stat().st_size for each in ([path] if folder is None else folder.iterdir()) if each.is_file())


def _read(meta: Mapping[str, Any], parts, path: Path) -> SogFile:
    version = int(meta.get("version", 1))
    if version not in (1, 2):
        raise ValueError(f"version {version}")
    count = int(meta["count"] if version == 2 else meta["means"]["shape"][0])
    check_rows(path, count, _num_bytes(path))

    def pixels(field: str, place: int = 0) -> np.ndarray:
        name = meta[field]["files"][place]
        image = _decode_webp(parts(name), path, name).reshape(-1, 4)
        if len(image) < count:
            raise ValueError(f"{name} has {len(image)} pixels for {count} Gaussians")
        return image[:count]

    sh0, labels, palette, rest = pixels("sh0"), np.zeros((count, 0), np.uint8), np.zeros((0, 0, 3), np.uint8), None
    if "shN" in meta:
        labels = pixels("shN", 1)[:, :2]
        palette, rest = _read_palette(meta["shN"], parts, path, version)
        if labels.size and int((labels[:, 0] + 256 * labels[:, 1].astype(int)).max()) >= len(palette):
            raise ValueError(f"a label beyond the {len(palette)} palette rows")
    sections = {
        "means": np.concatenate([pixels("means", 0)[:, :3], pixels("means", 1)[:, :3]], axis=1),
        "log_scales": pixels("scales")[:, :3],
        "raw_quats": pixels("quats"),
        "logit_opacities": sh0[:, 3:],
        "sh0": sh0[:, :3],
        "shN": labels,
    }
    steps = np.arange(SIZE)
    if version == 2:
        logits = logits_of(steps / 255)
    else:
        logits = np.clip(_table(meta["sh0"], 4, version)[3], -16, 16).astype(np.float32)
    notes = {"render_mode": str(meta["model"])} if meta.get("model") in ("antialiased", "2dgs") else {}
    limits = np.array([meta["means"]["mins"], meta["means"]["maxs"]], dtype=np.float64).reshape(2, 3)
    if not (np.abs(limits) <= MAX_LOG_POSITION).all():
        raise ValueError(f"positions from {limits[0].tolist()} to {limits[1].tolist()}")
    return SogFile(
        version, limits, _table(meta["scales"], 3, version), _table(meta["sh0"], 3, version), logits, palette,
        np.zeros(SIZE, np.float32) if rest is None else rest, sections, notes,
    )  # fmt: skip


def _table(entry: Mapping[str, Any], channels: int, version: int) -> np.ndarray:
    """(channels 256) float32: what every byte means; version 1 has limits per channel instead of a codebook."""
    if version == 2:
        codebook = np.array(entry["codebook"], dtype=np.float32)
        padded = np.pad(codebook, (0, SIZE - len(codebook)), mode="edge")
        return np.tile(padded, (channels, 1))
    lows, highs = (np.atleast_1d(np.array(entry[key], dtype=np.float64)) for key in ("mins", "maxs"))
    shares = np.arange(SIZE) / 255
    lows, highs = (np.broadcast_to(side, (max(channels, len(side)),))[:channels, None] for side in (lows, highs))
    return (lows + (highs - lows) * shares).astype(np.float32)


def _read_palette(entry: Mapping[str, Any], parts, path: Path, version: int) -> tuple[np.ndarray, np.ndarray]:
    """(p K 3) bytes and the (256) numbers they stand for."""
    name = entry["files"][0]
    image = _decode_webp(parts(name), path, name)[..., :3]
    num_rest = image.shape[1] // _PALETTE_COLUMNS
    if num_rest not in (3, 8, 15):
        raise ValueError(f"{name} is {image.shape[1]} pixels wide, not 192, 512 or 960")
    palette = image.reshape(-1, num_rest, 3)
    return palette[: max(int(entry.get("count", len(palette))), 0)], _table(entry, 1, version)[0]


def _fresh(values: dict[str, np.ndarray]) -> SogFile:
    """A SOG fitted to values from elsewhere."""
    coded = _log_positions(values["means"])
    limits = np.stack([coded.min(axis=0), coded.max(axis=0)]) if len(coded) else np.zeros((2, 3))
    scales, sh0 = (_padded(fit_codebook(values[name])) for name in ("log_scales", "sh0"))
    num_rest, rest = values["shN"].shape[1], np.zeros(SIZE, np.float32)
    palette, labels = np.zeros((0, num_rest, 3), np.uint8), np.zeros(len(coded), np.int64)
    if num_rest and len(coded):
        rows, labels = fit_palette(values["shN"].reshape(len(coded), -1), PALETTE_SIZE)
        rest = _padded(fit_codebook(rows))
        palette = nearest(rows, rest).astype(np.uint8).reshape(-1, num_rest, 3)
    scales, sh0, logits = np.tile(scales, (3, 1)), np.tile(sh0, (3, 1)), logits_of(np.arange(SIZE) / 255)
    return _with_sections(SogFile(2, limits, scales, sh0, logits, palette, rest, {}, {}), values, labels)


def _edited(
    gaussians: Gaussians, values: dict[str, np.ndarray], old: SogFile, index: np.ndarray, path: Path
) -> SogFile:
    """The old SOG with new values for edited Gaussians; the others keep all their bytes."""
    places = (index >= 0).nonzero()[0]
    rows = {name: section[index[places]] for name, section in old.sections.items()}
    then, is_same = decode(old, rows), {}
    for name, array in values.items():
        is_same[name] = np.zeros(len(index), dtype=bool)
        is_same[name][places] = same_rows(array[places], then[name].reshape(array[places].shape))
    tables = {}
    for name, table in (("log_scales", old.scales[0]), ("sh0", old.sh0[0])):
        is_used = np.zeros(SIZE, dtype=bool)
        is_used[old.sections[name][index[is_same[name]]].reshape(-1)] = True
        tables[name] = np.tile(refit_free_entries(table, is_used, values[name][~is_same[name]]), (3, 1))
    coded, limits = _log_positions(values["means"]), old.limits
    edge = 1e-6 + 1e-6 * np.abs(limits)
    if len(coded) and ((coded < limits[0] - edge[0]) | (coded > limits[1] + edge[1])).any():
        limits = np.stack([np.minimum(limits[0], coded.min(axis=0)), np.maximum(limits[1], coded.max(axis=0))])
        warn(f"{path}: a Gaussian lies beyond the file's old bounds; all positions were rounded anew")
    palette, labels = _grown_palette(old, values["shN"], is_same["shN"], index)
    raw = replace(old, limits=limits, scales=tables["log_scales"], sh0=tables["sh0"], palette=palette)
    raw = _with_sections(raw, values, labels)
    merged = keep_untouched(gaussians, dict(raw.sections), old.sections, index, lambda part: decode(old, part))
    if limits is not old.limits:
        merged["means"] = raw.sections["means"]
    return replace(raw, sections=merged)


def _grown_palette(
    old: SogFile, shN: np.ndarray, is_same: np.ndarray, index: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The old palette with rows for edited sets as far as it may grow, and a label for everyone."""
    labels = np.zeros(len(shN), np.int64)
    if not shN.shape[1]:
        return old.palette, labels
    stored = old.sections["shN"].astype(np.int64)
    labels[is_same] = (stored[:, 0] + 256 * stored[:, 1])[index[is_same]]
    edited = (~is_same).nonzero()[0]
    if not len(edited):
        return old.palette, labels
    used = int(labels[is_same].max(initial=-1)) + 1
    palette = old.palette[: max(used, len(old.palette))]
    wanted, places = np.unique(shN[edited].reshape(len(edited), -1), axis=0, return_inverse=True)
    if len(palette) + len(wanted) <= PALETTE_LIMIT:
        fresh = nearest(wanted, old.rest).astype(np.uint8).reshape(-1, *palette.shape[1:])
        labels[edited] = len(palette) + places.reshape(-1)
        return np.concatenate([palette, fresh]), labels
    entries = torch.from_numpy(old.rest[palette].reshape(len(palette), -1))
    labels[edited] = assign(torch.from_numpy(wanted), entries).numpy()[places.reshape(-1)]
    return palette, labels


def _with_sections(raw: SogFile, values: dict[str, np.ndarray], labels: np.ndarray) -> SogFile:
    """The file with bytes for all values, by its own tables."""
    low, high = raw.limits
    share = (_log_positions(values["means"]) - low) / np.where(high > low, high - low, 1)
    fixed = np.rint(np.clip(share, 0, 1) * 65535).astype(np.uint16)
    smallest, largest = pack_smallest_three(values["raw_quats"])
    tags = (largest[:, None] + _QUAT_TAG).astype(np.uint8)
    quats = np.concatenate([to_bytes((smallest * math.sqrt(2) + 1) / 2 * 255), tags], axis=1)
    has_rest = raw.palette.shape[1] > 0
    sections = {
        "means": np.concatenate([fixed & 255, fixed >> 8], axis=1).astype(np.uint8),
        "log_scales": nearest(values["log_scales"], raw.scales[0]).astype(np.uint8),
        "raw_quats": quats,
        "logit_opacities": to_bytes(sigmoid(values["logit_opacities"]) * 255)[:, None],
        "sh0": nearest(values["sh0"][:, 0], raw.sh0[0]).astype(np.uint8),
        "shN": np.stack([labels & 255, labels >> 8], axis=1).astype(np.uint8)[:, : 2 if has_rest else 0],
    }
    return replace(raw, sections=sections)


def _log_positions(means: np.ndarray) -> np.ndarray:
    return np.sign(means) * np.log1p(np.abs(means.astype(np.float64)))


def _padded(codebook: np.ndarray) -> np.ndarray:
    if not len(codebook):
        return np.zeros(SIZE, np.float32)
    return np.pad(codebook, (0, SIZE - len(codebook)), mode="edge").astype(np.float32)


def _images(raw: SogFile) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """meta.json and the images it names."""
    sections, count = raw.sections, len(raw.sections["means"])
    opaque = np.full((count, 1), 255, np.uint8)
    pixels = {
        "means_l": np.concatenate([sections["means"][:, :3], opaque], axis=1),
        "means_u": np.concatenate([sections["means"][:, 3:], opaque], axis=1),
        "scales": np.concatenate([sections["log_scales"], opaque], axis=1),
        "quats": sections["raw_quats"],
        "sh0": np.concatenate([sections["sh0"], sections["logit_opacities"]], axis=1),
    }
    meta: dict[str, Any] = {"version": 2, "asset": {"generator": "threestudio-ssd"}, "count": count}
    if raw.notes.get("render_mode") in ("antialiased", "2dgs"):
        meta["model"] = raw.notes["render_mode"]
    meta["means"] = {
        "mins": raw.limits[0].tolist(), "maxs": raw.limits[1].tolist(), "files": ["means_l.webp", "means_u.webp"],
    }  # fmt: skip
    meta["scales"] = {"codebook": raw.scales[0].tolist(), "files": ["scales.webp"]}
    meta["quats"] = {"files": ["quats.webp"]}
    meta["sh0"] = {"codebook": raw.sh0[0].tolist(), "files": ["sh0.webp"]}
    images = {f"{name}.webp": _square(table) for name, table in pixels.items()}
    num_rest = raw.palette.shape[1]
    if num_rest and count:
        labels = np.concatenate([sections["shN"], np.zeros_like(opaque), opaque], axis=1)
        rows = -(-len(raw.palette) // _PALETTE_COLUMNS)
        padded = np.zeros((rows * _PALETTE_COLUMNS, num_rest, 3), np.uint8)
        padded[: len(raw.palette)] = raw.palette
        images["shN_centroids.webp"] = padded.reshape(rows, _PALETTE_COLUMNS * num_rest, 3)
        images["shN_labels.webp"] = _square(labels)
        meta["shN"] = {
            "count": len(raw.palette), "bands": {3: 1, 8: 2, 15: 3}[num_rest], "codebook": raw.rest.tolist(),
            "files": ["shN_centroids.webp", "shN_labels.webp"],
        }  # fmt: skip
    return meta, images


def _square(pixels: np.ndarray) -> np.ndarray:
    """(h w 4) with sides that are multiples of 4, filled up with zeros."""
    width = max(4, math.ceil(math.sqrt(len(pixels)) / 4) * 4)
    height = max(4, math.ceil(len(pixels) / width / 4) * 4)
    image = np.zeros((height * width, 4), np.uint8)
    image[: len(pixels)] = pixels
    return image.reshape(height, width, 4)


def _pillow() -> Any:
    optional_package("PIL", ".sog", "Pillow")
    from PIL import Image

    return Image


def _webp(pixels: np.ndarray) -> bytes:
    buffer, image = io.BytesIO(), _pillow().fromarray(np.ascontiguousarray(pixels))
    image.save(buffer, "WEBP", lossless=True, exact=True, quality=60, method=4)
    return buffer.getvalue()


def _decode_webp(data: bytes, path: Path, name: str) -> np.ndarray:
    """(h w 4) uint8."""

    def refuse(why: str) -> SceneFormatError:
        what = f"{path} has a part {name} that is no picture ({why})"
        return SceneFormatError(what=what, expected="a lossless WebP image", fix="copy or download the splat again")

    _pillow()
    with open_image(io.BytesIO(data), refuse, MAX_PHOTOGRAPH) as image:
        return np.array(image.convert("RGBA"))
