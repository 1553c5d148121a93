"""Formats that give every field of a Gaussian its own bytes: keep the bytes of every field that did not change."""

from collections.abc import Callable, Mapping

import numpy as np

from ..model import Gaussians
from .common import as_arrays, logits_of, same_rows, untouched_altered

SMALLEST_SCALE = 1e-12
"""World units that stand for a size of 0, which has no logarithm."""
Sections = Mapping[str, np.ndarray]
"""Bytes per field name of ``Gaussians``: (n, width) uint8."""


def keep_untouched(
    gaussians: Gaussians, encoded: Sections, old: Sections, index: np.ndarray, decode: Callable[[Sections], Sections]
) -> dict[str, np.ndarray]:
    """Encoded bytes, with those of the old file wherever they still mean the value a Gaussian has.

    Args:
        gaussians: What is written.
        encoded: Their bytes, as if they were all new.
        old: Bytes of the old file.
        index: (n) row of the old file each Gaussian stems from, -1 for none.
        decode: The reader's own function from bytes to float32 values.
    """
    places = (index >= 0).nonzero()[0]
    rows = {name: section[index[places]] for name, section in old.items()}
    then, now = decode(rows), as_arrays(gaussians)
    merged = {}
    for name, section in encoded.items():
        merged[name] = section
        if section.shape[1:] == old[name].shape[1:] and section.size:
            is_same = same_rows(now[name][places], then[name].reshape(now[name][places].shape))
            merged[name][places[is_same]] = rows[name][is_same]
            kept = untouched_altered(gaussians)
            merged[name][kept] = old[name][index[kept]]
    return merged


def unit_quats(quats: np.ndarray) -> np.ndarray:
    """Quaternions of length one as float32; zero stays zero."""
    norms = np.linalg.norm(quats, axis=1, keepdims=True)
    return (quats / np.where(norms == 0, 1, norms)).astype(np.float32)


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Nearest whole number 0..255."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def sigmoid(values: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) in float64, without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * values.astype(np.float64)))


def linear_rows(values: Sections) -> dict[str, np.ndarray]:
    """Float32 rows, as bytes, of formats that store sizes and opacities themselves and rotations x y z w of length 1.

    Args:
        values: The six arrays of a scene.
    """
    count = len(values["means"])
    columns = {
        "means": values["means"],
        "log_scales": np.exp(values["log_scales"].astype(np.float64)),
        "raw_quats": unit_quats(values["raw_quats"])[:, [1, 2, 3, 0]],
        "logit_opacities": sigmoid(values["logit_opacities"])[:, None],
        "sh0": values["sh0"].reshape(count, 3),
        "shN": values["shN"].reshape(count, 3 * values["shN"].shape[1]),
    }
    return {name: np.ascontiguousarray(column, "<f4").view(np.uint8) for name, column in columns.items()}


def linear_values(sections: Sections) -> dict[str, np.ndarray]:
    """The six arrays of ``linear_rows``; a size of 0 is a very small one."""
    rows = {name: np.ascontiguousarray(section).view("<f4") for name, section in sections.items()}
    scales = rows["log_scales"].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        return {
            "means": rows["means"],
            "log_scales": np.log(np.where(scales <= 0, SMALLEST_SCALE, scales)).astype(np.float32),
            "raw_quats": rows["raw_quats"][:, [3, 0, 1, 2]],
            "logit_opacities": logits_of(np.clip(rows["logit_opacities"][:, 0].astype(np.float64), 0, 1)),
            "sh0": rows["sh0"],
            "shN": rows["shN"].reshape(len(rows["means"]), rows["shN"].shape[1] // 3, 3),
        }


def keep_linear(gaussians: Gaussians, local: Gaussians, old: Sections, index: np.ndarray, read: Sections) -> Sections:
    """``linear_rows`` of a scene, with the old ones wherever they still mean the value a Gaussian has.

    Args:
        gaussians: What is written.
        local: The same in the axes of the rows.
        old: Rows of the old file.
        index: (n) row of the old file each Gaussian stems from, -1 for none.
        read: What the old rows were read as, by field.
    """
    encoded = linear_rows(as_arrays(local))
    places = index[index >= 0]
    return keep_untouched(gaussians, encoded, old, index, lambda _: {name: each[places] for name, each in read.items()})
