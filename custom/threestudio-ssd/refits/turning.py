"""Edited views turned about the object to where they agree: an editor is told a side, and draws about that side."""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from ..cameras import Cameras
from ..gaussians import rotation_matrices
from ..masks.region import Region
from ..metrics import mask_iou
from .hull import Hull

COARSE = 3.0
"""Spacing of the grid that turns are found with, in units of the hull's."""
NUM_TRIED, NUM_PASSES = 7, 2
"""Turns that are tried, from most to most, and how often all views are held against what the turned ones agree on."""
RELUCTANCE = 0.02
"""IoU that the largest turn has to gain, smaller ones less by their square: round things do not turn."""


@torch.no_grad()
def turned_to_agree(hull: Hull, most_deg: float) -> Hull:
    """The hull of the same views, each from where its outline agrees best with what all of them take for the object.

    Two views whose words are "from the left" may show a car from 10 degrees apart, and what they agree on is rounder
    than what either shows. All views together are not turned, for nothing says which way they should be.

    Args:
        hull: Of views as they were edited.
        most_deg: How far each is turned about the region's axis at most, to either side; 0: none is.
    """
    if most_deg == 0:
        return hull
    cameras, region = hull.cameras, hull.region
    tried = torch.linspace(-most_deg, most_deg, NUM_TRIED).to(region.center)
    coarse = dataclasses.replace(hull, spacing=COARSE * hull.spacing)
    candidates = [turned_about(cameras, region, turn.expand(len(cameras))) for turn in tried]
    reluctance = RELUCTANCE * (tried / most_deg).square()[:, None]
    drawn, turns_deg = hull.seen_in(hull.shares), torch.zeros(len(cameras)).to(tried)
    for _ in range(NUM_PASSES):
        turned = dataclasses.replace(coarse, cameras=turned_about(cameras, region, turns_deg))
        agreement = turned.best_agreement()
        overlaps = torch.stack([mask_iou(turned.outlines(agreement, each), drawn) for each in candidates])
        turns_deg = tried[(overlaps - reluctance).argmax(dim=0)]
        turns_deg = turns_deg - turns_deg.mean()
    return dataclasses.replace(hull, cameras=turned_about(cameras, region, turns_deg))


def turned_about(cameras: Cameras, region: Region, turns_deg: Float[Tensor, "c"]) -> Cameras:
    """Cameras carried about the axis of a region, each by its own angle, clockwise as seen from above."""
    halves = turns_deg.deg2rad()[:, None] / 2
    turns = rotation_matrices(torch.cat([halves.cos(), halves.sin() * region.axes[2]], dim=1))
    moves = torch.eye(4).to(turns).repeat(len(turns), 1, 1)
    moves[:, :3, :3] = turns
    moves[:, :3, 3] = region.middle - turns @ region.middle
    return dataclasses.replace(cameras, viewmats=cameras.viewmats @ moves.to(cameras.viewmats))
