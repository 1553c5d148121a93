"""Which points are near each other."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

NUM_ON_SURFACE = 9
"""Points, itself among them, that say how the surface through a point lies."""


class Neighbors:
    """A k-d tree over points, in any number of dimensions.

    The points are moved to coordinates of at least 1 first: scipy splits a node whose smallest coordinate is 0 at the
    next number above it, a denormal, and recurses without end in a process that flushes denormals to zero.

    Args:
        points: At least one, any unit.
    """

    def __init__(self, points: Float[np.ndarray, "n d"]) -> None:
        self._offset = 1.0 - points.min(axis=0)
        # Typed loosely: the types that scipy publishes allow no list of counts, which its documentation does.
        self._tree: Any = KDTree(points + self._offset, leafsize=16)

    def nearest(
        self, places: Float[np.ndarray, "m d"], count: int, limit: float = np.inf
    ) -> tuple[Float[np.ndarray, "m k"], Int[np.ndarray, "m k"]]:
        """Distances to and rows of the ``count`` points nearest to each place, nearest first.

        A place with fewer points within ``limit`` has infinite distances at the end of its row.
        """
        gaps, rows = self._tree.query(places + self._offset, k=np.arange(1, count + 1), distance_upper_bound=limit)
        return gaps, rows

    def pairs(self, radius: float) -> Int[np.ndarray, "p 2"]:
        """Rows of the points at most ``radius`` apart, each pair once."""
        return self._tree.query_pairs(radius, output_type="ndarray")


def normals_of(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Unit normals of the surface that points lie on, to either side: across their nearest neighbours' plane."""
    _, rows = Neighbors(points).nearest(points, min(NUM_ON_SURFACE, len(points)))
    offsets = points[rows] - points[rows].mean(axis=1, keepdims=True)
    return np.linalg.svd(offsets.mT @ offsets)[2][:, -1]
