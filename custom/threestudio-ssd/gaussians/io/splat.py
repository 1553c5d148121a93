"""``.splat`` (antimatter15): 32 bytes a Gaussian, 8-bit colour, opacity and rotation, no view-dependent colour.

A row is float32 x y z, float32 scales (not logs), uint8 r g b a, uint8 rotation w x y z as q * 128 + 128.
"""

from pathlib import Path

import numpy as np

from ...files import open_whole
from ..model import Gaussians
from ..sh import C0
from .common import as_arrays, cut_short, finish, logits_of, origin_file, read_bytes, warn, warn_of_render_mode
from .packed import SMALLEST_SCALE, Sections, keep_untouched, sigmoid, to_bytes, unit_quats

ROW = 32
_PARTS = {"means": slice(0, 12), "log_scales": slice(12, 24), "sh0": slice(24, 27), "logit_opacities": slice(27, 28),
          "raw_quats": slice(28, 32)}  # fmt: skip


def read_splat(path: Path) -> Gaussians:
    """Read a ``.splat`` file.

    Raises:
        SceneFormatError: If its size is not a multiple of 32 bytes.
    """
    data = read_bytes(path)
    if len(data) % ROW:
        what = f"{path} has {len(data)} bytes, which is {len(data) // ROW} Gaussians and {len(data) % ROW} bytes"
        raise cut_short(what, "a multiple of 32 bytes", or_other=True)
    rows = np.frombuffer(data, np.uint8).reshape(-1, ROW)
    sections = {name: rows[:, part] for name, part in _PARTS.items()}
    values = {**decode(sections), "shN": np.zeros((len(rows), 0, 3))}
    return finish(values, path=path, kind="splat", file=sections)


def write_splat(gaussians: Gaussians, path: Path) -> None:
    """Write a ``.splat`` file; colours are clipped to 0..1 and lose what depends on the direction of view."""
    values = as_arrays(gaussians)
    if gaussians.sh_degree and np.any(values["shN"]):
        warn(f"{path}: .splat holds no view-dependent colour; SH degree {gaussians.sh_degree} is left out")
    warn_of_render_mode(gaussians, path, ".splat")
    encoded = encode(values)
    kept = origin_file(gaussians, "splat")
    if kept is not None:
        encoded = keep_untouched(gaussians, encoded, kept[0], kept[1], decode)
    with open_whole(path) as file:
        file.write(np.concatenate([encoded[name] for name in _PARTS], axis=1).tobytes())


def decode(sections: Sections) -> dict[str, np.ndarray]:
    """Values of rows."""
    colors = sections["sh0"].astype(np.float32) / np.float32(255)
    with np.errstate(invalid="ignore"):
        scales = np.ascontiguousarray(sections["log_scales"]).view("<f4")
        log_scales = np.log(np.maximum(scales, np.float32(SMALLEST_SCALE)))  # NaN stays NaN
    return {
        "means": np.ascontiguousarray(sections["means"]).view("<f4"),
        "log_scales": log_scales,
        "raw_quats": unit_quats((sections["raw_quats"].astype(np.float32) - 128) / 128),
        "logit_opacities": logits_of(sections["logit_opacities"][:, 0].astype(np.float64) / 255),
        "sh0": (colors - np.float32(0.5)) / np.float32(C0),
    }


def encode(values: Sections) -> dict[str, np.ndarray]:
    """Rows of values, rounded to the nearest."""
    count = len(values["means"])
    scales = np.exp(values["log_scales"].astype(np.float64)).astype("<f4")
    return {
        "means": np.ascontiguousarray(values["means"], "<f4").view(np.uint8).reshape(count, 12),
        "log_scales": scales.view(np.uint8).reshape(count, 12),
        "sh0": to_bytes((0.5 + C0 * values["sh0"][:, 0].astype(np.float64)) * 255),
        "logit_opacities": to_bytes(sigmoid(values["logit_opacities"]) * 255)[:, None],
        "raw_quats": to_bytes(unit_quats(values["raw_quats"]).astype(np.float64) * 128 + 128),
    }
