"""Where the new object stands and how large it is, as far as the old one tells, whose place and size are known."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..cameras.orbit import Orbit, orbit_frame
from ..cameras.rays import ObjectFrame
from ..editors import EditorPrompts, Views
from ..gaussians import Gaussians
from ..masks.region import Region
from .carver import Carver
from .hull import INSIDE

SHARE = 0.5
"""The new object is resized by this power of the old one's error. Part of an error is of the scene, whose things are
smaller or larger than the editor has them as a rule, and the new object shares it; part is of the old thing alone."""
RANGE = (0.8, 1.25)
"""Factors stay between these."""
MEASUREMENTS = 3
"""How often what is drawn is measured, each time in the unit that the last one says."""
FARTHEST = 0.15
"""How far an object is moved at most, in units of half the region's width."""


def frame_in(region: Region, front_deg: float, orbit: Orbit) -> ObjectFrame:
    """The frame of an object whose foot is in the middle of a region's, measured by the cameras' distance.

    Args:
        region: Where it stands.
        front_deg: Azimuth that its front looks to, as ``ViewWordsConfig`` has it.
        orbit: Of the capture.
    """
    axes = torch.stack(orbit_frame(orbit.up.cpu())).float()
    angle = torch.tensor(front_deg).deg2rad()
    front = axes[0] * angle.cos() + axes[1] * angle.sin()
    turned = torch.stack([front, torch.linalg.cross(axes[2], front), axes[2]])
    foot = region.world(region.center.new_tensor([[0.0, 0.0, -1.0]]))[0]
    return ObjectFrame(turned, foot.cpu(), orbit.radius)


@torch.no_grad()
def measured(carver: Carver) -> ObjectFrame | None:
    """The frame of the new object, in whose unit the old one is as large as the editor would draw it.

    Things are larger in one scene than in another, and the new object is as the old one is. Seen from all sides, areas
    do not tell which way it looks.

    Args:
        carver: Of views of the scene.

    Returns:
        The frame as it is where the editor knows nothing of sizes, or the old object is not seen.
    """
    editing, frame, size = carver.editing, carver.editing.frame, 1.0
    if frame is None:
        return None
    cameras = editing.cameras
    unseen = editing.background.new_zeros(len(cameras), 3, int(cameras.heights[0]), int(cameras.widths[0]))
    views = Views(unseen, unseen, editing.seeds, cameras=cameras, frame=frame)
    for _ in range(MEASUREMENTS):
        drawn = editing.editor.drawn(replace(views, frame=replace(frame, unit=frame.unit * size)))
        if drawn is None or not drawn.sum() or not carver.covered_before.sum():
            return frame
        factor = float((carver.covered_before.sum() / drawn.sum()).sqrt())
        size = min(max(size * factor, RANGE[0]), RANGE[1])
    return replace(frame, unit=frame.unit * size)


@torch.no_grad()
def drawn_size(carver: Carver, strength: float) -> float:
    """How large the editor draws the old object, in units of its true size, as a length.

    It gets the views as they were and the source prompt. What it draws is carved as the new object is, and its outlines
    are held against those of the old one.

    Args:
        carver: Of views of a scene, with an editor that was loaded with ``redrawing``.
        strength: Of the edit, see ``Views``.

    Returns:
        1, which changes nothing, where nothing of it can be carved.
    """
    editing, prompts = carver.editing, redrawing(carver.editing.editor.network.prompts)
    rows = torch.arange(len(editing.cameras))
    hull = carver.hull(editing.edit(None, rows, strength, 0, prompts=prompts)[1])
    drawn = hull.outlines(hull.best_agreement()).sum()
    true = hull.seen_in(carver.covered_before).sum()
    return float((drawn / true).sqrt()) if drawn and true else 1.0


def redrawing(prompts: EditorPrompts) -> EditorPrompts:
    """The prompts of an edit that leaves everything as it is."""
    return EditorPrompts(prompts.source, prompts.source, prompts.negative)


def resize_factor(size: float) -> float:
    """What to multiply the new object's size with, where the old one is drawn in that size; see ``drawn_size``."""
    return min(max(size**-SHARE, RANGE[0]), RANGE[1])


@torch.no_grad()
def seen_size(carver: Carver, new: Gaussians) -> float:
    """How large an object looks, as a length: the root of the number of pixels that it fills in all views."""
    return float((carver.covered(new) > INSIDE).sum().sqrt())


def resized(gaussians: Gaussians, region: Region, factor: float) -> Gaussians:
    """An object, larger by a factor about the middle of the region's foot.

    Args:
        gaussians: The object.
        region: Where it stands.
        factor: Of all lengths, > 0.
    """
    foot = region.world(region.center.new_tensor([[0.0, 0.0, -1.0]]))
    scales = gaussians.log_scales + torch.tensor(factor).log()
    return gaussians.replace(means=foot + factor * (gaussians.means - foot), log_scales=scales)


@torch.no_grad()
def way_back(carver: Carver, new: Gaussians) -> Float[Tensor, "3"]:
    """The level way from where the new object stands to where the old one stood, world units.

    An editor puts an object where its picture asks for one, a little beside the old one's place. The middle of either
    is that of what its outlines enclose.

    Args:
        carver: Of views of the scene.
        new: The new object.

    Returns:
        Zeros where one of them cannot be made out; never farther than ``FARTHEST``.
    """
    region = carver.region
    middles = [_middle(carver, shares) for shares in (carver.covered_before, carver.covered(new))]
    if middles[0] is None or middles[1] is None:
        return torch.zeros_like(region.center)
    way = (middles[0] - middles[1]) * torch.tensor([1.0, 1.0, 0.0]).to(region.center)
    return way * (FARTHEST / way.norm().clamp_min(FARTHEST)) * region.half @ region.axes


def _middle(carver: Carver, shares: Float[Tensor, "c 1 h w"]) -> Float[Tensor, "3"] | None:
    """Of what views take for an object, in the units of the region; None where that is nothing."""
    hull = carver.hull(shares)
    points = hull.points[hull.is_inside(carver.cfg.fine_agreement).flatten()]
    return carver.region.unit(points).mean(dim=0) if len(points) else None
