"""``.compressed.ply`` (SuperSplat): four 32-bit words a Gaussian, relative to the bounds of its chunk of 256.

Elements: ``chunk`` (bounds of position, log scale and colour), ``vertex`` (packed position, rotation, scale, colour),
and ``sh`` (8 bits a coefficient, in the channel-major order of plain PLY). The order of the Gaussians is kept. Words
whose value did not change are written as they were, unless an edit leaves the bounds of their chunk, or Gaussians
before them were dropped: then the chunk is rounded anew, and a warning counts what moved.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import SceneFormatError
from ...files import open_whole
from ..model import Gaussians
from ..sh import C0
from .common import as_arrays, cut_short, finish, logits_of, origin_file, same_rows, untouched_altered, warn
from .packed import sigmoid, to_bytes
from .ply_header import NUM_REST_COLUMNS, Header, columns_of, comments_of
from .quats import pack_smallest_three, unpack_smallest_three

CHUNK = 256
LOG_SCALE_LIMIT = 20.0
SH_RANGE = 8.0
_POSITION_BITS = (11, 10, 11)
_WORDS = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
_BOUND_NAMES = {
    field: tuple([f"{side}_{name}" for name in names.split()] for side in ("min", "max"))
    for field, names in (("means", "x y z"), ("log_scales", "scale_x scale_y scale_z"), ("colors", "r g b"))
}


@dataclass(frozen=True, eq=False)
class CompressedPly:
    """What a compressed PLY held.

    Attributes:
        bounds: Per field (c 2 3) float32: low and high of every chunk.
        words: (n 4) uint32: position, rotation, scale, colour.
        sh: (n 3K) uint8.
        comments: Its comment lines.
    """

    bounds: dict[str, np.ndarray]
    words: np.ndarray
    sh: np.ndarray
    comments: tuple[str, ...] = ()


def is_compressed(header: Header) -> bool:
    """Whether a PLY header is that of a compressed splat."""
    vertex = header.element("vertex")
    return vertex is not None and "packed_position" in vertex.names


def read_compressed_ply(path: Path, data: bytes, header: Header) -> Gaussians:
    """Read a compressed PLY whose header was parsed already.

    Raises:
        SceneFormatError: If the file is cut short, or an element or column is missing.
    """
    tables, offset = {}, header.size
    for element in header.elements:
        dtype = None if element.lists or header.format == "ascii" else header.dtype(element)
        end = offset + element.count * (dtype.itemsize if dtype else 0)
        if dtype is None or end > len(data):
            what = f"{path} ends inside its element {element.name} ({len(data)} bytes)"
            raise cut_short(what, f"at least {end} bytes of binary rows")
        tables[element.name] = np.frombuffer(data, dtype, element.count, offset)
        offset = end
    raw = _checked(tables, header, path)
    values = decode(raw, np.arange(len(raw.words)))
    return finish(values, path=path, kind="compressed.ply", file=raw, notes=header.notes)


def write_compressed_ply(gaussians: Gaussians, path: Path) -> None:
    """Write a compressed PLY in the order of the Gaussians; nearby ones should be neighbours (``morton_order``)."""
    values = as_arrays(gaussians)
    kept = origin_file(gaussians, "compressed.ply")
    if kept is None:
        bounds, words = _fresh(values)
        comments = tuple(line.removeprefix("comment ") for line in comments_of(gaussians))
        raw = CompressedPly(bounds, words, _encode_sh(values["shN"]), comments)
    else:
        raw = _edited(gaussians, values, *kept, path)
    if values["shN"].size and np.abs(values["shN"]).max() > SH_RANGE / 2:
        warn(f"{path}: .compressed.ply holds SH coefficients from -4 to 4; larger ones were clipped")
    header = ["ply", "format binary_little_endian 1.0", *(f"comment {comment}" for comment in raw.comments)]
    header.append(f"element chunk {len(raw.bounds['means'])}")
    names = [name for lows, highs in _BOUND_NAMES.values() for name in (*lows, *highs)]
    header += [f"property float {name}" for name in names]
    header += [f"element vertex {len(raw.words)}", *(f"property uint {name}" for name in _WORDS)]
    if raw.sh.shape[1]:
        header += [f"element sh {len(raw.sh)}", *(f"property uchar f_rest_{i}" for i in range(raw.sh.shape[1]))]
    chunks = np.concatenate([raw.bounds[name].reshape(-1, 6) for name in _BOUND_NAMES], axis=1).astype("<f4")
    with open_whole(path) as file:
        file.write(("\n".join([*header, "end_header"]) + "\n").encode("latin-1"))
        file.write(chunks.tobytes())
        file.write(raw.words.astype("<u4").tobytes())
        file.write(np.ascontiguousarray(raw.sh).tobytes())


def decode(raw: CompressedPly, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Values of some rows of a file."""
    words, chunk = raw.words[rows], rows // CHUNK
    position, rotation, scale, color = words.T
    rotation_thirds = np.stack([rotation >> shift & 1023 for shift in (20, 10, 0)], axis=1)
    shares = np.stack([color >> shift & 255 for shift in (24, 16, 8)], axis=1) / 255
    colors = _between(shares, raw.bounds["colors"][chunk])
    return {
        "means": _between(_unpack(position), raw.bounds["means"][chunk]),
        "log_scales": _between(_unpack(scale), raw.bounds["log_scales"][chunk]),
        "raw_quats": unpack_smallest_three((rotation_thirds / 1023 - 0.5) * np.sqrt(2), rotation >> 30),
        "logit_opacities": logits_of((color & 255) / 255),
        "sh0": ((colors.astype(np.float64) - 0.5) / C0).astype(np.float32),
        "shN": _decode_sh(raw.sh[rows]),
    }


def _checked(tables: dict[str, np.ndarray], header: Header, path: Path) -> CompressedPly:
    """The tables by meaning, with every name and count checked."""
    nothing = np.dtype([])
    vertex, chunk = tables["vertex"], tables.get("chunk", np.zeros(0, nothing))
    count = len(vertex)
    has_colors = "min_r" in columns_of(chunk)
    fields = ("means", "log_scales", "colors") if has_colors else ("means", "log_scales")
    need = [name for field in fields for side in _BOUND_NAMES[field] for name in side]
    missing = [name for name in _WORDS if name not in columns_of(vertex)]
    missing += [name for name in need if name not in columns_of(chunk)] if "chunk" in tables else ["element chunk"]
    sh = tables.get("sh", np.zeros(count, nothing))
    num_rest = len(columns_of(sh))
    names = [f"f_rest_{i}" for i in range(num_rest)]
    missing += [name for name in names if name not in columns_of(sh)][:1]
    if not missing and (len(chunk) * CHUNK < count or len(sh) != count or num_rest not in NUM_REST_COLUMNS):
        missing = [f"enough rows: {len(chunk)} chunks and {len(sh)} sh rows with {num_rest} columns for {count}"]
    if missing:
        raise SceneFormatError(
            what=f"{path} is a compressed PLY without {', '.join(missing[:4])}",
            expected="chunk, vertex and (optionally) sh elements as SuperSplat writes them",
            fix="export it again, or as plain .ply",
        )
    chunk = chunk[: -(-count // CHUNK)]
    bounds = {}
    for field, (lows, highs) in _BOUND_NAMES.items():
        if field == "colors" and not has_colors:
            bounds[field] = np.tile(np.array([[[0.0] * 3, [1.0] * 3]], np.float32), (len(chunk), 1, 1))
            continue
        sides = [np.stack([chunk[name].astype(np.float32) for name in side], axis=1) for side in (lows, highs)]
        bounds[field] = np.stack(sides, axis=1)
    words = np.stack([vertex[name].astype(np.uint32) for name in _WORDS], axis=1).reshape(count, 4)
    bytes_of_sh = np.stack([sh[name] for name in names], axis=1) if names else np.zeros((count, 0), np.uint8)
    return CompressedPly(bounds, words, bytes_of_sh, tuple(header.comments))


def _fresh(values: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Tight bounds for every chunk and words relative to them."""
    count = len(values["means"])
    chunk = np.arange(count) // CHUNK
    drawn = _drawn(values)
    bounds = {name: _tight(drawn[name], chunk) for name in _BOUND_NAMES}
    return bounds, _encode_words(values, drawn, bounds, chunk)


def _drawn(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The fields that have bounds, float32: colours instead of sh0, log scales within their limit."""
    return {
        "means": values["means"],
        "log_scales": np.clip(values["log_scales"], -LOG_SCALE_LIMIT, LOG_SCALE_LIMIT),
        "colors": (0.5 + C0 * values["sh0"][:, 0].astype(np.float64)).astype(np.float32),
    }


def _tight(values: np.ndarray, chunk: np.ndarray) -> np.ndarray:
    """(c 2 3) least and largest value of every chunk."""
    if not len(values):
        return np.zeros((0, 2, 3), np.float32)
    starts = np.unique(chunk, return_index=True)[1]
    return np.stack([np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)], axis=1)


def _edited(
    gaussians: Gaussians, values: dict[str, np.ndarray], old: CompressedPly, index: np.ndarray, path: Path
) -> CompressedPly:
    """A file after an edit: chunks keep their bounds where every value still fits."""
    count = len(index)
    chunk, places = np.arange(count) // CHUNK, (index >= 0).nonzero()[0]
    rows = index[places]
    then, now = decode(old, rows), {name: array[places] for name, array in values.items()}
    same = {name: np.zeros(count, dtype=bool) for name in then}
    for name in then:
        if now[name].size == then[name].size:
            same[name][places] = same_rows(now[name], then[name].reshape(now[name].shape))
    for kept in same.values():
        kept[untouched_altered(gaussians)] = True
    drawn = _drawn(values)
    bounds = {name: _tight(drawn[name], chunk) for name in _BOUND_NAMES}
    is_exact = {}
    for name, field in (("means", "means"), ("log_scales", "log_scales"), ("colors", "sh0")):
        fits, old_bounds = _reusable(drawn[name], chunk, index, old.bounds[name], same[field])
        bounds[name][fits] = old_bounds[fits]
        is_exact[field] = same[field] & fits[chunk]
    words = _encode_words(values, drawn, bounds, chunk)
    old_words = old.words[np.maximum(index, 0)]
    for column, field in ((0, "means"), (1, "raw_quats"), (2, "log_scales")):
        kept = is_exact.get(field, same[field])
        words[kept, column] = old_words[kept, column]
    rgb, alpha = np.uint32(0xFFFFFF00), np.uint32(0xFF)
    kept = (np.where(is_exact["sh0"], rgb, 0), np.where(same["logit_opacities"], alpha, 0))
    mask = np.bitwise_or(*kept).astype(np.uint32)
    words[:, 3] = (words[:, 3] & ~mask) | (old_words[:, 3] & mask)
    sh = _encode_sh(values["shN"])
    if sh.shape[1] == old.sh.shape[1]:
        sh[same["shN"]] = old.sh[index[same["shN"]]]
    moved = np.any([same[field] & ~is_exact[field] for field in is_exact], axis=0)
    if moved.any():
        warn(
            f"{path}: {int(moved.sum())} Gaussians that were not edited share chunks of {CHUNK} with edited or dropped "
            "ones and were rounded anew; save as .ply to keep them exactly"
        )
    return CompressedPly(bounds, words, sh, old.comments)


def _reusable(
    drawn: np.ndarray, chunk: np.ndarray, index: np.ndarray, old_bounds: np.ndarray, is_same: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which chunks can keep the bounds of one chunk of the old file, and those bounds."""
    num_chunks = int(chunk[-1]) + 1 if len(chunk) else 0
    chunk_of = np.where(index >= 0, index // CHUNK, -1)
    starts = np.arange(num_chunks) * CHUNK
    if not num_chunks:
        return np.zeros(0, dtype=bool), np.zeros((0, 2, 3), np.float32)
    highest = np.maximum.reduceat(chunk_of, starts)
    lowest = np.minimum.reduceat(np.where(chunk_of < 0, len(old_bounds), chunk_of), starts)
    candidate = old_bounds[np.maximum(highest, 0)]
    low, high = candidate[chunk, 0], candidate[chunk, 1]
    is_inside = is_same | ((drawn >= low) & (drawn <= high)).all(axis=1)
    fits = (highest >= 0) & (highest == lowest) & np.logical_and.reduceat(is_inside, starts)
    return fits, candidate


def _encode_words(
    values: dict[str, np.ndarray], drawn: dict[str, np.ndarray], bounds: dict[str, np.ndarray], chunk: np.ndarray
) -> np.ndarray:
    words = np.zeros((len(chunk), 4), np.uint32)
    if not len(chunk):
        return words
    words[:, 0] = _pack(_share(drawn["means"], bounds["means"][chunk]))
    smallest, largest = pack_smallest_three(values["raw_quats"])
    thirds = np.clip(np.rint((smallest / np.sqrt(2) + 0.5) * 1023), 0, 1023).astype(np.uint32)
    words[:, 1] = largest.astype(np.uint32) << 30 | thirds[:, 0] << 20 | thirds[:, 1] << 10 | thirds[:, 2]
    words[:, 2] = _pack(_share(drawn["log_scales"], bounds["log_scales"][chunk]))
    rgb = to_bytes(_share(drawn["colors"], bounds["colors"][chunk]) * 255).astype(np.uint32)
    alpha = to_bytes(sigmoid(values["logit_opacities"]) * 255)
    words[:, 3] = rgb[:, 0] << 24 | rgb[:, 1] << 16 | rgb[:, 2] << 8 | alpha
    return words


def _share(values: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Where values lie between their bounds, 0..1; 0 where the bounds are equal."""
    low, high = bounds[:, 0].astype(np.float64), bounds[:, 1].astype(np.float64)
    return np.clip((values - low) / np.where(high > low, high - low, 1.0), 0, 1)


def _between(shares: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    low, high = bounds[:, 0].astype(np.float64), bounds[:, 1].astype(np.float64)
    return (low + shares * (high - low)).astype(np.float32)


def _pack(shares: np.ndarray) -> np.ndarray:
    x, y, z = (np.rint(shares[:, axis] * (2**bits - 1)).astype(np.uint32) for axis, bits in enumerate(_POSITION_BITS))
    return x << 21 | y << 11 | z


def _unpack(words: np.ndarray) -> np.ndarray:
    return np.stack([(words >> 21) / 2047, (words >> 11 & 1023) / 1023, (words & 2047) / 2047], axis=1)


def _decode_sh(stored: np.ndarray) -> np.ndarray:
    """(n K 3) coefficients of bytes in channel-major order; the ends of the range are exact."""
    share = (stored.astype(np.float32) + np.float32(0.5)) / 256
    share = np.where(stored == 0, 0, np.where(stored == 255, 1, share)).astype(np.float32)
    coefficients = (share - np.float32(0.5)) * np.float32(SH_RANGE)
    return coefficients.reshape(len(stored), 3, stored.shape[1] // 3).transpose(0, 2, 1)


def _encode_sh(shN: np.ndarray) -> np.ndarray:
    flat = shN.transpose(0, 2, 1).reshape(len(shN), 3 * shN.shape[1])
    return np.clip(np.floor((flat / SH_RANGE + 0.5) * 256), 0, 255).astype(np.uint8)
