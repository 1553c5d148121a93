"""What a toy edit should look like: its scene before and after, and which pixels it is about."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..cameras import Cameras
from ..metrics import edit_regions, psnr
from ..rendering import coverage, render_bchw
from ..scenes import Scene
from .captions import SAME_AFTER_DEG
from .edits import NULL, ToyEdit
from .splat import to_gaussians
from .world import PART_GROUND, PART_OBJECT, PART_SKY, ToyScene, build_scene

PARTS = {"object": PART_OBJECT, "color": PART_OBJECT, "pattern": PART_OBJECT, "ground": PART_GROUND}
"""Which part of the scene an edit of an attribute is about; light is about everything, a null edit about nothing."""

TURN_DEG, FINE_TURN_DEG = 15, 5
"""Between the directions that are tried for a new object, and about the best of them."""


@dataclass(frozen=True)
class Truth:
    """An edit seen from some cameras, before it and as it should be after it.

    Attributes:
        edit: What was asked for.
        source: Renders before the edit.
        target: Renders of the scene that the target prompt describes.
        inside: What the edit is about: the object (before or after), the ground, everything for light and for null.
        outside: What it should leave alone; nothing for light.
        parts: Which part of the target makes up most of a pixel: PART_OBJECT, PART_GROUND or PART_SKY.
        backdrop: Renders of the target without its object and the object's shadow.
        turn_deg: Of the target's object, see ``build_scene``.
    """

    edit: ToyEdit
    source: Float[Tensor, "c 3 h w"]
    target: Float[Tensor, "c 3 h w"]
    inside: Bool[Tensor, "c h w"]
    outside: Bool[Tensor, "c h w"]
    parts: Int[Tensor, "c h w"]
    backdrop: Float[Tensor, "c 3 h w"]
    turn_deg: float = 0.0


def shots(gaussians: Scene, views: Cameras) -> Float[Tensor, "c 3 h w"]:
    """Renders in [0, 1] before black; views of one size."""
    return render_bchw(gaussians, views, torch.zeros(3))


def make_truth(edit: ToyEdit, scene_seed: int, views: Cameras, turn_deg: float = 0.0) -> Truth:
    """Render an edit's source and truth; views of one size; the target's object turned, see ``build_scene``."""
    scenes = [build_scene(edit.source, scene_seed), build_scene(edit.target, scene_seed, turn_deg=turn_deg)]
    source, target = (shots(to_gaussians(scene), views) for scene in scenes)
    shares = torch.stack([part_coverage(scenes[1], part, views) for part in (PART_OBJECT, PART_GROUND, PART_SKY)])
    backdrop = shots(to_gaussians(build_scene(edit.target, scene_seed, has_object=False)), views)
    if edit.attribute in PARTS:
        part = PARTS[edit.attribute]
        inside, outside = edit_regions(torch.maximum(part_coverage(scenes[0], part, views), shares[part]))
    else:
        inside = torch.ones_like(source[:, 0], dtype=torch.bool)
        outside = inside if edit.attribute == NULL else ~inside
    return Truth(edit, source, target, inside, outside, shares.argmax(0), backdrop, turn_deg)


def turned_truth(images: Float[Tensor, "c 3 h w"], edit: ToyEdit, scene_seed: int, views: Cameras) -> Truth:
    """The truth of a change of shape whose object looks the way that the result's does, as nearly as it can.

    No word says which way a new object faces, and neither does the old one where all its sides are alike. So every
    direction is right, as long as it is one and the same in all views.

    Args:
        images: The result at ``views``, [0, 1].
        edit: One that does not make a new object has the one truth that ``make_truth`` gives.
        scene_seed: Of the toy scene.
        views: Of one size.
    """

    def nearness(truth: Truth) -> float:
        return float(psnr(images, truth.target, truth.inside).mean())

    period = SAME_AFTER_DEG.get(edit.target.object) if edit.attribute == "object" else None
    if period is None:
        return make_truth(edit, scene_seed, views)
    turns = range(0, period, TURN_DEG)
    coarse = max((make_truth(edit, scene_seed, views, turn) for turn in turns), key=nearness)
    turns = [(coarse.turn_deg + step) % period for step in (-FINE_TURN_DEG, FINE_TURN_DEG)]
    return max([coarse, *(make_truth(edit, scene_seed, views, turn) for turn in turns)], key=nearness)


def part_coverage(scene: ToyScene, part: int, views: Cameras) -> Float[Tensor, "c h w"]:
    """How much of each pixel a part of the scene makes up."""
    return coverage(to_gaussians(scene), torch.from_numpy(scene.parts == part), views)
