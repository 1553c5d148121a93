"""Codebooks: 256 numbers that stand for many, and palettes of whole rows, both by k-means."""

import numpy as np
import torch

SIZE = 256
PALETTE_LIMIT = 65536
_ITERATIONS = 30
_PALETTE_ITERATIONS = 4
_BLOCK = 1 << 24


def fit_codebook(values: np.ndarray, size: int = SIZE) -> np.ndarray:
    """At most ``size`` numbers, ascending float32, with small squared distance to all values (Lloyd's algorithm in 1D).

    Half of the starting points are quantiles, half evenly spaced, so that rare extremes keep an entry near them.

    Args:
        values: Any shape, finite.
        size: How many entries may be used.
    """
    ordered = np.sort(values.reshape(-1).astype(np.float64))
    distinct = np.unique(ordered.astype(np.float32))
    if len(distinct) <= size:
        return distinct
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    half = size // 2
    quantiles = ordered[np.linspace(0, len(ordered) - 1, size - half).round().astype(int)]
    entries = np.sort(np.concatenate([quantiles, np.linspace(ordered[0], ordered[-1], half)]))
    for _ in range(_ITERATIONS):
        borders = np.searchsorted(ordered, (entries[1:] + entries[:-1]) / 2)
        borders = np.concatenate([[0], borders, [len(ordered)]])
        counts = np.diff(borders)
        means = np.diff(sums[borders]) / np.maximum(counts, 1)
        entries = np.sort(np.where(counts > 0, means, entries))
    return entries.astype(np.float32)


def nearest(values: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Index of the nearest entry for every value; the codebook need not be ascending."""
    order = np.argsort(codebook, kind="stable")
    ordered = codebook[order].astype(np.float64)
    above = np.searchsorted(ordered, values).clip(1, max(len(ordered) - 1, 1))
    above = np.minimum(above, len(ordered) - 1)
    below = np.maximum(above - 1, 0)
    is_below = np.abs(values - ordered[below]) <= np.abs(values - ordered[above])
    return order[np.where(is_below, below, above)]


def refit_free_entries(codebook: np.ndarray, is_used: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The codebook with its unused entries spent on new values; used ones keep theirs.

    Args:
        codebook: (k) numbers.
        is_used: (k) whether something untouched refers to the entry.
        values: What the free entries are for.
    """
    free = (~is_used).nonzero()[0]
    if not len(free) or not values.size:
        return codebook
    fresh = fit_codebook(values, len(free))
    refitted = codebook.copy()
    refitted[free[: len(fresh)]] = fresh
    return refitted


def fit_palette(rows: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """At most ``size`` rows that stand for all, and the label of every row.

    Few enough distinct rows are kept exactly; else k-means from random rows with a fixed seed.

    Args:
        rows: (n d) float32.
        size: Largest number of palette rows.

    Returns:
        (p d) float32 and (n) int64.
    """
    distinct, labels = np.unique(rows, axis=0, return_inverse=True)
    if len(distinct) <= size:
        return distinct.astype(np.float32), labels.reshape(-1)
    generator = torch.Generator().manual_seed(0)
    points = torch.from_numpy(rows)
    sample = points[torch.randperm(len(points), generator=generator)[: 8 * size]]
    palette = sample[:size].clone()
    for _ in range(_PALETTE_ITERATIONS):
        near = assign(sample, palette)
        sums = torch.zeros_like(palette).index_add_(0, near, sample)
        counts = torch.bincount(near, minlength=len(palette))[:, None]
        palette = torch.where(counts > 0, sums / counts.clamp_min(1), palette)
    return palette.numpy(), assign(points, palette).numpy()


def assign(points: torch.Tensor, palette: torch.Tensor) -> torch.Tensor:
    """(n) index of the nearest palette row for every point, Euclidean."""
    squares = (palette**2).sum(dim=1)
    block = max(1, _BLOCK // max(1, len(palette)))
    parts = [(squares - 2 * chunk @ palette.T).argmin(dim=1) for chunk in points.split(block)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)
