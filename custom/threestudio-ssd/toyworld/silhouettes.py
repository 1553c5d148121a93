"""Whether an edited object has the true shape: its silhouette from all sides against the truth's."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..cameras import Cameras
from ..gaussians import Gaussians
from ..metrics import mask_iou
from ..metrics.boundary import boundary_f_score
from .edits import ToyEdit
from .splat import to_gaussians
from .truth import shots
from .world import PART_OBJECT, build_scene

SEEN = 0.1
"""A pixel is the object's when its most different channel differs by more than this from what is behind it."""
TOLERANCE = 2.0
"""Of outlines, pixels: a sixty-fourth of the views that judge them."""


def silhouettes(images: Float[Tensor, "c 3 h w"], behind: Float[Tensor, "c 3 h w"]) -> Bool[Tensor, "c h w"]:
    """Where views show something in front of what is behind.

    It is what a person sees that counts: old Gaussians painted as sky are no object, and remains of the old one are.
    """
    return (images - behind).abs().amax(dim=1) > SEEN


def shape_figures(
    result: Gaussians, edit: ToyEdit, scene_seed: int, views: Cameras, turn_deg: float = 0.0
) -> dict[str, float]:
    """Means over views of ``shape_iou`` (intersection over union) and ``boundary_f`` of the silhouettes.

    Result and truth are held against the true scene without its object, whose shadow stays; both by the same rule.

    Args:
        result: The edited scene.
        edit: What was asked for.
        scene_seed: Of the toy scene.
        views: Held-out views, of one size.
        turn_deg: Of the true object, see ``build_scene``.
    """
    scene = build_scene(edit.target, scene_seed, turn_deg=turn_deg)
    target = to_gaussians(scene)
    behind = shots(target.select(torch.from_numpy(scene.parts != PART_OBJECT)), views)
    ours, theirs = (silhouettes(shots(each, views), behind) for each in (result, target))
    return {
        "shape_iou": float(mask_iou(ours, theirs).mean()),
        "boundary_f": float(boundary_f_score(ours, theirs, TOLERANCE).mean()),
    }
