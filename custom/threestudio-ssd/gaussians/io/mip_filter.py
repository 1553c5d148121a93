"""The 3D smoothing filter of Mip-Splatting (Yu et al. 2024, eq. 7), where a PLY keeps it in a column of its own.

Each Gaussian is blurred by an isotropic one whose deviation is the column's value, and its opacity falls as its density
does. Gaussians are taken as they are drawn, so a scene here is blurred already.
"""

import numpy as np

from .common import logits_of
from .packed import sigmoid

COLUMN = "filter_3D"
"""Deviations, world units, >= 0."""


def filtered(log_scales: np.ndarray, logits: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and opacities as they are drawn.

    Args:
        log_scales: (n 3) as stored.
        logits: (n) as stored.
        deviations: (n) of the filter; 0 leaves both as they are.

    Returns:
        (n 3) log scales and (n) opacity logits, float32.
    """
    squares, added = np.exp(2 * log_scales.astype(np.float64)), deviations.astype(np.float64)[:, None] ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        grown = np.log(squares + added) / 2
        shares = np.sqrt((squares / (squares + added)).prod(axis=1))
    is_filtered = deviations > 0
    return (
        np.where(is_filtered[:, None], grown, log_scales).astype(np.float32),
        np.where(is_filtered, logits_of(np.clip(sigmoid(logits) * shares, 0, 1)), logits).astype(np.float32),
    )
