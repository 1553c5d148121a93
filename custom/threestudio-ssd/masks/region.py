"""Where a new object may stand: an upright hull with room around what was selected."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..cameras import Cameras
from ..cameras.orbit import orbit_frame
from .box import in_box

RADIUS_ROOM, HEIGHT_ROOM = 1.3, 1.35
"""How much wider and higher than the selection the region is."""
LEAST_RADIUS, LEAST_HEIGHT = 0.65, 1.7
"""The region is at least so wide in units of the selection's height, and so high in units of its radius: a flat thing
may become a tall one."""
INNER = (0.005, 0.995)
"""Quantiles between which the selection's centres are taken to lie."""
NUM_SIDES = 48
"""Corners of the polygon that stands for a circle."""
NEAR = 1e-2
"""Depth in front of a camera from which on a point is projected, world units."""


@dataclass(frozen=True, eq=False)
class Region:
    """A convex upright volume: an elliptic cylinder, or a box.

    Attributes:
        axes: (3 3) unit vectors, one a row, perpendicular; the last is up.
        center: (3) the middle, in coordinates along the axes.
        half: (3) half its size along each axis, world units, > 0.
        is_round: A cylinder about the last axis, not a box.
    """

    axes: Float[Tensor, "3 3"]
    center: Float[Tensor, "3"]
    half: Float[Tensor, "3"]
    is_round: bool = True

    @cached_property
    def size(self) -> float:
        """Half its longest side, world units."""
        return float(self.half.max())

    @property
    def middle(self) -> Float[Tensor, "3"]:
        """World point."""
        return self.center @ self.axes

    def to(self, device: torch.device | str) -> "Region":
        """The same region on another device."""
        return Region(self.axes.to(device), self.center.to(device), self.half.to(device), self.is_round)

    def unit(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Coordinates in which the region is the unit cylinder or the cube from -1 to 1."""
        return ((self.axes @ points.T - self.center[:, None]) / self.half[:, None]).T

    def world(self, places: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Inverse of ``unit``."""
        return (self.axes.T @ (places * self.half + self.center).T).T

    def contains(self, points: Float[Tensor, "n 3"]) -> Bool[Tensor, "n"]:
        """Which points lie inside."""
        return self._holds(self.unit(points))

    def clamped(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """The points, those outside moved to the border; those inside stay as they are, bit for bit."""
        places = self.unit(points)
        if self.is_round:
            x, y, z = places.unbind(dim=1)
            shrink = torch.hypot(x, y).clamp_min(1).reciprocal()
            inside = torch.stack([x * shrink, y * shrink, z.clamp(-1, 1)]).T
        else:
            inside = places.clamp(-1, 1)
        return torch.where(self._holds(places)[:, None], points, self.world(inside))

    def _holds(self, places: Float[Tensor, "n 3"]) -> Bool[Tensor, "n"]:
        """Which coordinates of ``unit`` lie inside."""
        x, y, z = places.unbind(dim=1)
        across = torch.hypot(x, y) if self.is_round else torch.maximum(x.abs(), y.abs())
        return (across <= 1) & (z.abs() <= 1)

    def corners(self) -> Float[Tensor, "k 3"]:
        """Points whose convex hull is the region, to within a hundredth of a round one's radius."""
        angles = torch.arange(NUM_SIDES if self.is_round else 4) / (NUM_SIDES if self.is_round else 4) * 2 * math.pi
        ring = torch.stack([angles.cos(), angles.sin()], dim=1)
        if not self.is_round:
            ring = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
        ends = [torch.cat([ring, torch.full((len(ring), 1), end)], dim=1) for end in (-1.0, 1.0)]
        return self.world(torch.cat(ends).to(self.half))

    def masks(self, cameras: Cameras) -> Float[Tensor, "c 1 h w"]:
        """1 where a view looks into the region, 0 elsewhere; cameras of one size.

        What stands in front of it is not taken out. A camera inside the region, or with a part of it behind itself,
        sees it everywhere.
        """
        width, height = int(cameras.widths[0]), int(cameras.heights[0])
        corners = self.corners().cpu()
        masks = []
        for viewmat, K in zip(cameras.viewmats.cpu(), cameras.Ks.cpu(), strict=True):
            seen = corners @ viewmat[:3, :3].T + viewmat[:3, 3]
            mask = np.zeros((height, width), np.uint8)
            if seen[:, 2].min() > NEAR:
                pixels = (seen @ K.T)[:, :2] / seen[:, 2:] - 0.5  # of OpenCV, whose pixel centres are whole numbers
                outline = cv2.convexHull(pixels.clamp(-1e4, 1e4).numpy().round().astype(np.int32))
                cv2.fillConvexPoly(mask, outline, 1)
                mask = cv2.dilate(mask, np.ones((3, 3), np.uint8))  # corners were rounded to whole pixels
            elif seen[:, 2].max() > NEAR:
                mask[:] = 1
            masks.append(torch.from_numpy(mask))
        return torch.stack(masks)[:, None].to(self.half)


def region_around(
    points: Float[Tensor, "n 3"], up: Float[Tensor, "3"], room: tuple[float, float] = (RADIUS_ROOM, HEIGHT_ROOM)
) -> Region:
    """The upright cylinder around points, with room to the sides and above; its foot is where theirs is.

    Args:
        points: Centres of the selection, world units.
        up: Of the scene, a unit vector.
        room: Factors on the radius and on the height, >= 1.
    """
    axes = torch.stack(orbit_frame(up)).to(points)
    places = points @ axes.T
    low, high = places.quantile(torch.tensor(INNER, device=points.device), dim=0)
    middle = (low + high) / 2
    radius = float((places[:, :2] - middle[:2]).norm(dim=1).quantile(INNER[1]))
    tall = max(float(high[2] - low[2]), 1e-3 * radius, 1e-6)
    wide = max(room[0] * radius, LEAST_RADIUS * tall)
    high_as = max(room[1] * tall, LEAST_HEIGHT * radius)
    center = torch.stack([middle[0], middle[1], low[2] + high_as / 2])
    return Region(axes, center, points.new_tensor([wide, wide, high_as / 2]))


def region_of_box(box: Sequence[float]) -> Region:
    """The box between two corners, x_min y_min z_min x_max y_max z_max, world units.

    Raises:
        ConfigError: If it is no box.
    """
    in_box(torch.zeros(1, 3), list(box), "system.region")
    low, high = torch.tensor(list(box), dtype=torch.float32).view(2, 3)
    return Region(torch.eye(3), (low + high) / 2, (high - low) / 2, is_round=False)
