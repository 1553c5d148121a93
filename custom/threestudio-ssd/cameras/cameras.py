"""Cameras: where a scene is looked at from, in one convention, and the photographs that were taken there."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .checks import check_lens, check_poses
from .lenses import Lens, read_photograph, undistort
from .photographs import photograph_size

FAR = 1e5
"""Distance from the origin, world units, from which on cameras are counted from their midst."""
_TENSORS, _SIZES, _LISTS = ("viewmats", "Ks"), ("widths", "heights"), ("names", "image_paths", "lenses")


@dataclass(eq=False)
class Cameras:
    """Pinhole cameras, OpenCV axes (x right, y down, z forward), pixel centres at +0.5, top-left corner at (0, 0).

    Attributes:
        viewmats: (c 4 4) world to camera, float32.
        Ks: (c 3 3) intrinsics in pixels, float32; the principal point need not be in the middle.
        widths: (c) int64, pixels.
        heights: (c) int64, pixels.
        names: (c) one name per view, as the capture calls it.
        image_paths: (c) the photograph of each view, or None.
        lenses: (c) how the photograph on disk was taken: its lens, size and intrinsics; None without.
        offset: The point of the capture's world that positions are counted from; not 0 for map coordinates.
    """

    viewmats: Float[Tensor, "c 4 4"]
    Ks: Float[Tensor, "c 3 3"]
    widths: Int[Tensor, "c"]
    heights: Int[Tensor, "c"]
    names: list[str]
    image_paths: list[Path | None] = field(default_factory=list)
    lenses: list[Lens | None] = field(default_factory=list)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        count = len(self.names)
        self.viewmats, self.Ks = self.viewmats.float(), self.Ks.float()
        self.widths, self.heights = self.widths.long(), self.heights.long()
        self.image_paths = self.image_paths or [None] * count
        self.lenses = self.lenses or [None] * count
        shapes = {"viewmats": (count, 4, 4), "Ks": (count, 3, 3), "widths": (count,), "heights": (count,)}
        for name, shape in shapes.items():
            actual = tuple(getattr(self, name).shape)
            if actual != shape:
                raise ValueError(f"{name} has shape {actual}, expected {shape} for {count} names")
        if len(self.image_paths) != count or len(self.lenses) != count:
            raise ValueError(f"{len(self.image_paths)} pictures and {len(self.lenses)} lenses for {count} cameras")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> "Cameras":
        """Some of the cameras; an integer gives a set of one."""
        rows = torch.arange(len(self))[index.cpu() if isinstance(index, Tensor) else index].reshape(-1)
        fields: dict[str, Any] = {name: getattr(self, name)[rows] for name in (*_TENSORS, *_SIZES)}
        fields |= {name: [getattr(self, name)[row] for row in rows.tolist()] for name in _LISTS}
        return Cameras(**fields, offset=self.offset)

    @classmethod
    def of_lenses(
        cls, path: Path, viewmats: np.ndarray, lenses: list[Lens], names: list[str], image_paths: list[Path | None]
    ) -> "Cameras":
        """The pinhole cameras of a capture: focal lengths, principal points and sizes are those of the lenses.

        Those too far from the origin for float32 are counted from their midst.

        Args:
            path: The file they were read from, for messages.
            viewmats: (c 4 4) world to camera, OpenCV axes.
            lenses: (c) of the photographs.
            names: (c) of the views.
            image_paths: (c) the photographs, or None.

        Raises:
            SceneFormatError: For the first pose or lens that no camera has.
        """
        check_poses(viewmats, names, path)
        for lens, name in zip(lenses, names, strict=True):
            check_lens(lens, name, path)
        widths, heights = torch.tensor([lens.size for lens in lenses]).unbind(1)
        Ks = torch.stack([lens.K for lens in lenses])
        exact = torch.from_numpy(viewmats).double()
        centers = -(exact[:, :3, :3].mT @ exact[:, :3, 3:])[:, :, 0]
        middle = centers.median(dim=0).values.round() if centers.abs().max() > FAR else torch.zeros(3).double()
        exact[:, :3, 3:] += exact[:, :3, :3] @ middle[:, None]
        x, y, z = middle.tolist()
        return cls(exact, Ks, widths, heights, names, image_paths, list(lenses), (x, y, z))

    def counted_from(self, offset: Sequence[float]) -> "Cameras":
        """The same cameras in a world whose positions are counted from another point of the capture's world."""
        step = torch.tensor(offset, dtype=torch.float64) - torch.tensor(self.offset, dtype=torch.float64)
        if not step.any():
            return self
        viewmats = self.viewmats.double()
        viewmats[:, :3, 3] += viewmats[:, :3, :3] @ step.to(viewmats)
        x, y, z = map(float, offset)
        return replace(self, viewmats=viewmats, offset=(x, y, z))

    @property
    def centers(self) -> Float[Tensor, "c 3"]:
        """Camera centres in the world."""
        rotations, translations = self.viewmats[:, :3, :3], self.viewmats[:, :3, 3]
        return -(rotations.mT @ translations[:, :, None])[:, :, 0]

    @property
    def forwards(self) -> Float[Tensor, "c 3"]:
        """Unit viewing directions in the world."""
        return self.viewmats[:, 2, :3]

    @property
    def ups(self) -> Float[Tensor, "c 3"]:
        """Unit directions in the world that point upwards in the image."""
        return -self.viewmats[:, 1, :3]

    def pixels(self, index: int, points: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n"]]:
        """Where one camera sees points: their pixels, and their depths along the viewing axis, world units.

        Points behind the camera, whose depth is not above 0, have pixels that mean nothing.
        """
        viewmat, K = self.viewmats[index].to(points), self.Ks[index].to(points)
        seen = viewmat[:3, :3] @ points.T + viewmat[:3, 3:]
        return ((K @ seen)[:2] / seen[2]).T, seen[2]

    def to(self, device: torch.device | str) -> "Cameras":
        """The same cameras on another device; widths and heights stay on the CPU, where everyone asks for them."""
        return replace(self, **{name: getattr(self, name).to(device) for name in _TENSORS})

    def resized(self, width: int, height: int) -> "Cameras":
        """The same views drawn at another size in pixels; what is seen stays, squashed if the aspect is another one."""
        return self.drawn_at(torch.full_like(self.widths, width), torch.full_like(self.heights, height))

    def scaled(self, factor: int | float) -> "Cameras":
        """The same views at a multiple of their size, rounded to whole pixels, at least 1."""
        widths = (self.widths * factor).round().long().clamp_min(1)
        return self.drawn_at(widths, (self.heights * factor).round().long().clamp_min(1))

    def cropped(
        self, left: int | Int[Tensor, "c"], top: int | Int[Tensor, "c"], width: int | Int[Tensor, "c"],
        height: int | Int[Tensor, "c"],
    ) -> "Cameras":  # fmt: skip
        """A window of each view; it may reach beyond the old borders.

        Args:
            left: Pixels from the old left border to the new one; negative outside. One number, or one per camera.
            top: The same from the top.
            width: Pixels, at least 1.
            height: Pixels, at least 1.
        """
        lefts, tops, widths, heights = (
            torch.as_tensor(value, device=self.widths.device).long().expand(len(self)).clone()
            for value in (left, top, width, height)
        )
        if len(self) and (widths.min() < 1 or heights.min() < 1):
            raise ValueError(f"a crop needs at least 1 pixel, got {widths.min()} x {heights.min()}")
        Ks = self.Ks.double()
        Ks[:, 0, 2] -= lefts.to(Ks)
        Ks[:, 1, 2] -= tops.to(Ks)
        return replace(self, Ks=Ks, widths=widths, heights=heights)

    def filling(self, width: int, height: int) -> "Cameras":
        """The same views at another size in pixels without distortion: what does not fit its aspect is cut off.

        The largest centred window of that aspect is kept; ``fx / fy`` stays what it was to the last digit.
        """
        scales = torch.maximum(width / self.widths.double(), height / self.heights.double())
        Ks = self.Ks.double()
        Ks[:, 0, 2] -= (self.widths / 2).to(Ks)
        Ks[:, 1, 2] -= (self.heights / 2).to(Ks)
        Ks[:, :2] *= scales.to(Ks)[:, None, None]
        Ks[:, 0, 2] += width / 2
        Ks[:, 1, 2] += height / 2
        sizes = {"widths": torch.full_like(self.widths, width), "heights": torch.full_like(self.heights, height)}
        return replace(self, Ks=Ks, **sizes)

    def load_image(self, index: int, background: Sequence[float] = (1.0, 1.0, 1.0)) -> Float[Tensor, "h w 3"]:
        """The photograph of one view, undistorted, resized and cropped to what the camera shows now, in [0, 1].

        What lies outside the photograph is black; ``inside_photograph`` says where that is.

        Args:
            index: Which view.
            background: RGB in [0, 1] that transparent photographs are composited on; white if not given.

        Raises:
            SceneFormatError: If there is no photograph or it cannot be read.
        """
        size = (int(self.widths[index]), int(self.heights[index]))
        behind = torch.tensor(list(background), dtype=torch.float32)
        path, name, lens = self.image_paths[index], self.names[index], self.lenses[index]
        return read_photograph(path, name, lens, self.Ks[index].cpu(), size, behind)

    def inside_photograph(self, index: int) -> Float[Tensor, "h w"]:
        """How much of each pixel of ``load_image`` the photograph shows, in [0, 1].

        A pinhole image of a lens with pincushion distortion, or a window beyond the borders, reaches further than
        the photograph does.
        """
        size, lens = (int(self.widths[index]), int(self.heights[index])), self.lenses[index]
        path = self.image_paths[index]
        if lens is None or path is None:
            return torch.ones(size[::-1])
        width0, height0 = photograph_size(path, lens.size)
        return undistort(torch.ones(height0, width0, 1), lens, self.Ks[index].cpu(), size)[..., 0]

    def drawn_at(self, widths: Int[Tensor, "c"], heights: Int[Tensor, "c"]) -> "Cameras":
        """The same with a size of its own for each view, pixels."""
        Ks = self.Ks.double()
        Ks[:, 0] *= (widths / self.widths).to(Ks)[:, None]
        Ks[:, 1] *= (heights / self.heights).to(Ks)[:, None]
        return replace(self, Ks=Ks, widths=widths, heights=heights)


def concatenate(sets: Sequence[Cameras]) -> Cameras:
    """All cameras of several sets, one after the other; positions are counted as in the first."""
    sets = [cameras.counted_from(sets[0].offset) for cameras in sets]
    fields: dict[str, Any] = {
        name: torch.cat([getattr(cameras, name) for cameras in sets]) for name in (*_TENSORS, *_SIZES)
    }
    fields |= {name: [each for cameras in sets for each in getattr(cameras, name)] for name in _LISTS}
    return Cameras(**fields, offset=sets[0].offset)
