"""What a scene's file says of its world: which axis points upwards, and where positions are counted from."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class FileOrigin:
    """The file that Gaussians were read from, so that rows nobody changed are written back byte for byte.

    Attributes:
        path: The file, for messages.
        format: One of ``ply``, ``compressed.ply``, ``splat``, ``spz``, ``sog``, ``ksplat``, ``glb``, ``usd``,
            ``checkpoint``.
        file: What the format's own module needs to write untouched rows: raw rows, header, comments. Shared by all
            copies and never changed.
        rows: (n) int64 on the CPU: the row of ``file`` a Gaussian stems from, -1 for one that is new. A Gaussian
            cloned or split from another keeps its parent's row, and so inherits the columns this program does not know.
        notes: What the file says about itself: ``up`` ("+z"), ``render_mode`` ("mip", "2dgs", "antialiased").
        altered: (m) rows whose stored values cannot be drawn (NaN, infinity, zero rotation).
        altered_values: The six tensors that stand for those rows instead.
        offset: The point of the file's world that positions are counted from here; not 0 for map coordinates.
    """

    path: str
    format: str
    file: Any
    rows: Int[Tensor, "n"]
    notes: Mapping[str, str] = field(default_factory=dict)
    altered: Int[Tensor, "m"] = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    altered_values: Mapping[str, Tensor] = field(default_factory=dict)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def with_rows(self, rows: Int[Tensor, "n"]) -> "FileOrigin":
        """The same file under other rows."""
        return dataclasses.replace(self, rows=rows.detach().to("cpu", torch.int64))


class Placed:
    """A scene in the world of its file.

    Attributes:
        origin: The file; None: it stems from none.
        parts: What it consists of, in the plural.
    """

    origin: FileOrigin | None
    parts = "Gaussians"

    @property
    def stated_up(self) -> str | None:
        """The axis that points upwards, ``"+x"`` .. ``"-z"``, if the file says so."""
        return None if self.origin is None else self.origin.notes.get("up")

    @property
    def offset(self) -> tuple[float, float, float]:
        """The point of the file's world that positions are counted from."""
        return (0.0, 0.0, 0.0) if self.origin is None else self.origin.offset

    def local(self, numbers: Sequence[float], sign: int = -1) -> list[float]:
        """Points of the file's world, three numbers each, as they are counted here; what is left over stays.

        Args:
            numbers: Such as those of a box, or of a sphere, whose radius is left over.
            sign: 1 for the way back, into the file's world.
        """
        whole = len(numbers) // 3 * 3
        return [float(n) + sign * self.offset[i % 3] * (i < whole) for i, n in enumerate(numbers)]
