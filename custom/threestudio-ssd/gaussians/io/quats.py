"""Quaternions as their three smallest components: the largest follows from length one and is made positive."""

import numpy as np


def pack_smallest_three(quats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The three components besides the largest, in order, and the place of the largest.

    Args:
        quats: (n 4) in the component order of the format; of any length but zero.

    Returns:
        (n 3) float64 within +-sqrt(1/2), and (n) places 0..3.
    """
    unit = quats.astype(np.float64) / np.linalg.norm(quats.astype(np.float64), axis=1, keepdims=True)
    largest = np.abs(unit).argmax(axis=1)
    rows = np.arange(len(unit))
    unit = unit * np.where(unit[rows, largest] < 0, -1.0, 1.0)[:, None]
    is_kept = np.ones(unit.shape, dtype=bool)
    is_kept[rows, largest] = False
    return unit[is_kept].reshape(-1, 3), largest


def unpack_smallest_three(smallest: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Unit quaternions (n 4) float32 from ``pack_smallest_three``'s two parts."""
    is_kept = np.ones((len(smallest), 4), dtype=bool)
    rows = np.arange(len(smallest))
    is_kept[rows, largest] = False
    quats = np.empty((len(smallest), 4))
    quats[is_kept] = smallest.reshape(-1)
    quats[rows, largest] = np.sqrt(np.maximum(0, 1 - (smallest**2).sum(axis=1)))
    return quats.astype(np.float32)
