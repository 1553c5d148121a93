"""Formats that give every field of a Gaussian its own bytes: keep the bytes of every field that did not change."""

from collections.abc import Callable, Mapping

import numpy as np

from ..model import Gaussians
from .common import as_arrays, same_rows, untouched_altered

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
