"""Which points views take for the object, and how many of the views must, so that their outlines are met best."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import grid_sample

from ..cameras import Cameras
from ..masks.region import Region
from ..metrics import mask_iou

INSIDE = 0.5
"""Share of a pixel from which on it belongs to the object."""
LEAST_SIGHT = 0.5
"""Share of the views that must see a point."""
AGREEMENTS = (0.3, 0.98, 0.02)
"""Shares of the views that are tried: first, end, step."""
MAX_SIDE = 128
"""Of larger views, every so manieth pixel is looked at."""
NEAREST = 1e-3
"""Where the ray of a pixel begins at the earliest, in units of the region's size."""


@dataclass(frozen=True, eq=False)
class Hull:
    """A grid about a region, and how far views agree that its points belong to an object.

    The visual hull (Laurentini 1994) holds the points that all views take for the object. Views that an editor made one
    by one do not agree, and the hull of some of them is larger than what any of them shows, that of all of them
    smaller.

    Attributes:
        region: Where the object may be.
        cameras: The views, of one size.
        shares: How far each pixel belongs to the object, in [0, 1].
        spacing: Distance of neighbouring points, world units.
    """

    region: Region
    cameras: Cameras
    shares: Float[Tensor, "c 1 h w"]
    spacing: float

    @cached_property
    def sides(self) -> list[Float[Tensor, " s"]]:
        """Places of the grid along each axis of the region, in its units."""
        steps = [max(1, int(float(half) / self.spacing)) + 1 for half in self.region.half]
        pairs = zip(self.region.half, steps, strict=True)
        return [(torch.arange(-n, n + 1) * (self.spacing / float(half))).to(self.region.half) for half, n in pairs]

    @cached_property
    def points(self) -> Float[Tensor, "n 3"]:
        """Of the grid, world units."""
        return self.region.world(torch.cartesian_prod(*self.sides))

    @cached_property
    def support(self) -> Float[Tensor, "x y z"]:
        """Of the views that see a point, the share that takes it for the object; 0 outside the region, and of a point
        that few see.
        """
        is_within = self.region.contains(self.points)
        points = self.points[is_within]
        height, width = self.shares.shape[-2:]
        hits, seen = points.new_zeros(2, len(points))
        for row, share in enumerate(self.shares):
            pixels, depths = self.cameras.pixels(row, points)
            x, y = pixels.unbind(dim=1)
            is_seen = (depths > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
            places = (2 * pixels / points.new_tensor([width, height]) - 1)[None, None]
            value = grid_sample(share[None], places, mode="bilinear", padding_mode="border", align_corners=False)
            hits += is_seen & (value[0, 0, 0] > INSIDE)
            seen += is_seen
        support = points.new_zeros(len(self.points))
        support[is_within] = torch.where(seen >= LEAST_SIGHT * len(self.shares), hits / seen.clamp_min(1), 0.0)
        return support.view([len(side) for side in self.sides])

    def is_inside(self, agreement: float) -> Bool[Tensor, "x y z"]:
        """The points that at least this share of the views take for the object, in (0, 1]."""
        return self.support >= agreement - 1e-6

    def best_agreement(self) -> float:
        """The share of the views whose hull has the outlines of the views: the highest mean IoU."""
        drawn = self.seen_in(self.shares)
        tried = torch.arange(*AGREEMENTS, dtype=torch.float64).tolist()
        return max(tried, key=lambda agreement: float(mask_iou(self.outlines(agreement), drawn).mean()))

    def outlines(self, agreement: float, cameras: Cameras | None = None) -> Bool[Tensor, "c i j"]:
        """Where each view would show these points, in the pixels of ``seen_in``.

        Args:
            agreement: See ``is_inside``.
            cameras: As many and as large, in place of those that the shares are of.
        """
        return (self._reached if cameras is None else self._reached_from(cameras)) >= agreement

    def seen_in(self, shares: Float[Tensor, "c 1 h w"]) -> Bool[Tensor, "c i j"]:
        """Where shares of the views show something; of large views, some of the pixels."""
        return shares[:, 0, :: self._step, :: self._step] > INSIDE

    @property
    def _step(self) -> int:
        return -(-max(self.shares.shape[-2:]) // MAX_SIDE)

    @cached_property
    def _reached(self) -> Float[Tensor, "c i j"]:
        """The largest support on the way of each pixel through the region."""
        return self._reached_from(self.cameras)

    def _reached_from(self, cameras: Cameras) -> Float[Tensor, "c i j"]:
        return torch.stack([self._along_rays(cameras[row], self._step) for row in range(len(cameras))])

    def _along_rays(self, camera: Cameras, step: int) -> Float[Tensor, "i j"]:
        viewmat, K = camera.viewmats[0].to(self.points), camera.Ks[0].to(self.points)
        height, width = self.shares.shape[-2:]
        y, x = torch.meshgrid(
            torch.arange(0, height, step).to(K) + 0.5, torch.arange(0, width, step).to(K) + 0.5, indexing="ij"
        )
        rays = torch.stack([x, y, torch.ones_like(x)], dim=-1) @ K.inverse().T @ viewmat[:3, :3]
        depths = self.region.corners() @ viewmat[2, :3] + viewmat[2, 3]
        near = max(float(depths.min()), NEAREST * self.region.size)
        far = max(float(depths.max()), near)
        steps = torch.linspace(near, far, int((far - near) / self.spacing) + 2).to(K)
        center = camera.centers.to(self.points)
        ends = torch.stack([side[-1] for side in self.sides])  # of the grid, which reaches a little beyond the region
        begin, way = self.region.unit(center) / ends, (rays @ self.region.axes.T) / self.region.half / ends
        places = torch.addcmul(begin.flip(-1), way.flip(-1), steps[:, None, None, None])
        return grid_sample(self.support[None, None], places[None], align_corners=True)[0, 0].amax(dim=0)
