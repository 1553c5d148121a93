"""The photographs of a capture, split into those that are fitted and those that judge the fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

import threestudio

from ..cameras import Cameras, load_cameras, load_points, sparse_points_file, transforms_file
from ..early import named
from ..errors import ConfigError, check_values
from ..gaussians.io import read_points_ply
from .keys import PhotosConfig

WHOLE = 0.98
"""Share of a pixel that has to lie inside the photograph for it to count."""


@dataclass(frozen=True)
class Photos:
    """Cameras and their photographs; sizes may differ.

    Attributes:
        cameras: (c) the views.
        images: (c) photographs, each (h w 3) in [0, 1]; or whatever else stands for their colours, (h w d).
        inside: (c) where they show something, each (h w); an undistorted photograph need not fill its image.
    """

    cameras: Cameras
    images: list[Float[Tensor, "_ _ d"]]
    inside: list[Bool[Tensor, "_ _"]]

    def to(self, device: torch.device | str) -> "Photos":
        """The same photographs on another device."""
        images, inside = ([row.to(device) for row in rows] for rows in (self.images, self.inside))
        return Photos(self.cameras.to(device), images, inside)


class PhotoCapture:
    """A capture with its photographs, by the keys of ``PhotosConfig``.

    Args:
        cfg: The keys, checked against ``PhotosConfig``.

    Raises:
        ConfigError: For a value that cannot be used, or a capture without photographs.
        SceneFormatError: For cameras that cannot be read.
    """

    def __init__(self, cfg: Any) -> None:
        self.cfg = cfg
        if not self.cfg.cameras:
            raise ConfigError(
                what="cameras is empty", expected="a capture with photographs", fix="set cameras=path/to/capture"
            )
        check_values("data", self.cfg, PhotosConfig, {
            "size": (self.cfg.size >= 16, "at least 16"),
            "hold_out_every": (self.cfg.hold_out_every >= 0, "at least 0"),
        })  # fmt: skip
        self._dataparser = Path(self.cfg.dataparser) if self.cfg.dataparser else None
        capture = load_cameras(self.cfg.cameras, world=self.cfg.world, dataparser=self._dataparser)
        has_photo = [path is not None for path in capture.image_paths]
        if not any(has_photo):
            raise ConfigError(
                what=f"cameras {self.cfg.cameras} come without photographs",
                expected="pictures beside the cameras, named as they are there",
                fix="put the images folder where the capture tool left it",
            )
        self.capture = capture[torch.tensor(has_photo).nonzero()[:, 0]]
        if any(capture.offset):
            place = ", ".join(f"{number:.0f}" for number in capture.offset)
            threestudio.warn(f"{cfg.cameras} is far from its origin: positions of the fitted splat count from {place}.")

    def points(self) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]] | None:
        """Sparse points of the capture and their colours; None if it has none."""
        world, dataparser = self.cfg.world, self._dataparser
        document = transforms_file(named(self.cfg.cameras), world=world, dataparser=dataparser)
        if document is None:
            cloud = load_points(named(self.cfg.cameras))
            return cloud and (self._near(cloud[0]), cloud[1])
        cloud = sparse_points_file(document, world=world, dataparser=dataparser)
        if cloud is None:
            return None
        points, rgbs = read_points_ply(cloud[0])
        change = torch.from_numpy(cloud[1])
        return self._near(points.double() @ change[:3, :3].T + change[:3, 3]), rgbs

    def _near(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Points of the capture's world, counted as its cameras are."""
        return (points - torch.tensor(self.capture.offset, dtype=torch.float64)).float()

    def split(self, background: Sequence[float]) -> tuple[Photos, Photos]:
        """What is fitted, and what judges it: the same if nothing is held out.

        Args:
            background: RGB in [0, 1] behind the scene, which transparent photographs are composited on.
        """
        every, count = self.cfg.hold_out_every, len(self.capture)
        is_held = torch.arange(count) % every == 0 if every else torch.zeros(count, dtype=torch.bool)
        if is_held.all():
            is_held[:] = False
        train = self._read((~is_held).nonzero()[:, 0], background)
        return train, self._read(is_held.nonzero()[:, 0], background) if is_held.any() else train

    def _read(self, rows: Tensor, background: Sequence[float]) -> Photos:
        cameras = self.capture[rows]
        shortest = torch.minimum(cameras.widths, cameras.heights)
        scale = float(min(1.0, self.cfg.size / int(shortest.median())))
        cameras = cameras.scaled(scale)
        images = [cameras.load_image(row, background) for row in range(len(cameras))]
        return Photos(cameras, images, [cameras.inside_photograph(row) > WHOLE for row in range(len(cameras))])
