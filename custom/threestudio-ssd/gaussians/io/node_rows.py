"""Rows of formats in which a splat is a node of a scene: in the node's axes, beside where the node stands."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..model import Gaussians
from ..transform import USUAL_UP, placed, turn_to_y_up
from .common import as_arrays, origin_file
from .packed import Sections, keep_linear, linear_rows, linear_values

Y_UP = "+y"


@dataclass(frozen=True, eq=False)
class NodeRows:
    """What such a file holds.

    Attributes:
        sections: Float32 rows of every field as bytes, as ``packed.linear_rows`` makes them, in the axes of the node.
        matrix: (4 4) from these axes to the world of the file.
        up: Which axis of the Gaussians points upwards.
    """

    sections: Sections
    matrix: np.ndarray
    up: str

    @property
    def is_frame(self) -> bool:
        """Whether the node is ours: it only turns the scene for viewers, and the rows are the scene's own numbers."""
        return self.up != Y_UP and bool(np.allclose(self.matrix, turn_to_y_up(self.up)))

    @property
    def has_matrix(self) -> bool:
        """Whether the node does anything."""
        return not np.array_equal(self.matrix, np.eye(4))

    def values(self) -> dict[str, np.ndarray]:
        """The six arrays of the Gaussians, where the node puts them.

        Raises:
            ValueError: If it does more than turn, scale and move.
        """
        values = linear_values(self.sections)
        if self.is_frame or not self.has_matrix:
            return values
        tensors: dict[str, Any] = {name: torch.from_numpy(array) for name, array in values.items()}
        tensors["sh0"] = tensors["sh0"][:, None]
        return as_arrays(placed(Gaussians(**tensors), self.matrix))


def rows_to_write(gaussians: Gaussians, kind: str) -> NodeRows:
    """The rows of a scene: those of the file it was read from where nothing changed, in the same node.

    Args:
        gaussians: What is written.
        kind: The format.
    """
    kept = origin_file(gaussians, kind)
    if kept is None:
        up = gaussians.stated_up or USUAL_UP
        return NodeRows(linear_rows(as_arrays(gaussians)), turn_to_y_up(up), up)
    old, index = kept
    inverse = np.eye(4) if old.is_frame else np.linalg.inv(old.matrix)
    sections = keep_linear(gaussians, placed(gaussians, inverse), old.sections, index, old.values())
    return NodeRows(sections, old.matrix, old.up)
