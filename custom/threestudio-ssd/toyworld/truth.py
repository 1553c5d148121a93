"""What a toy edit should look like, and how far a result is from it: the judge of all comparisons."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..cameras import Cameras
from ..gaussians import Gaussians
from ..metrics import IDENTICAL_PSNR, edit_regions, psnr, saturation_drift, ssim, tiny_perceptual_distance
from ..rendering import coverage, render_bchw
from .classifier import load_classifier
from .edits import NULL, ToyEdit
from .splat import to_gaussians
from .vocabulary import ATTRIBUTES
from .world import PART_GROUND, PART_OBJECT, ToyScene, build_scene

PARTS = {"object": PART_OBJECT, "color": PART_OBJECT, "pattern": PART_OBJECT, "ground": PART_GROUND}
"""Which part of the scene an edit of an attribute is about; light is about everything, a null edit about nothing."""


@dataclass(frozen=True)
class Truth:
    """An edit seen from some cameras, before it and as it should be after it.

    Attributes:
        edit: What was asked for.
        source: Renders before the edit.
        target: Renders of the scene that the target prompt describes.
        inside: What the edit is about: the object (before or after), the ground, everything for light and for null.
        outside: What it should leave alone; nothing for light.
    """

    edit: ToyEdit
    source: Float[Tensor, "c 3 h w"]
    target: Float[Tensor, "c 3 h w"]
    inside: Bool[Tensor, "c h w"]
    outside: Bool[Tensor, "c h w"]


def shots(gaussians: Gaussians, views: Cameras) -> Float[Tensor, "c 3 h w"]:
    """Renders in [0, 1] before black; views of one size."""
    return render_bchw(gaussians, views, torch.zeros(3))


def make_truth(edit: ToyEdit, scene_seed: int, views: Cameras) -> Truth:
    """Render an edit's source and truth; views of one size."""
    scenes = [build_scene(edit.source, scene_seed), build_scene(edit.target, scene_seed)]
    source, target = (shots(to_gaussians(scene), views) for scene in scenes)
    everything = torch.ones_like(source[:, 0], dtype=torch.bool)
    if edit.attribute not in PARTS:
        is_null = edit.attribute == NULL
        return Truth(edit, source, target, everything, everything if is_null else ~everything)
    shares = torch.stack([part_coverage(scene, PARTS[edit.attribute], views) for scene in scenes]).amax(0)
    return Truth(edit, source, target, *edit_regions(shares))


def part_coverage(scene: ToyScene, part: int, views: Cameras) -> Float[Tensor, "c h w"]:
    """How much of each pixel a part of the scene makes up."""
    return coverage(to_gaussians(scene), torch.from_numpy(scene.parts == part), views)


def judge_images(
    images: Float[Tensor, "c 3 h w"], truth: Truth, read: Callable | None = None
) -> dict[str, float | None]:
    """Measure a result; None where a figure has no meaning.

    Args:
        images: The result at the truth's cameras, in [0, 1].
        truth: What it should be.
        read: The attribute classifier; None loads the embedded one.

    Returns:
        ``success`` (share of views that show the target attribute; all five for a null edit), ``kept`` (the other
        attributes), ``truth_psnr truth_ssim truth_distance saturation_drift`` (inside, to the truth),
        ``outside_psnr`` (to the source), ``consistency`` (share of views that agree on the attribute).
    """
    readings = (read or load_classifier())(images)
    wanted, attribute = truth.edit.target, truth.edit.attribute
    hits = {name: np.array([word == getattr(wanted, name) for word in readings[name].words]) for name in ATTRIBUTES}
    everything = np.all(list(hits.values()), axis=0)
    words = list(zip(*(readings[name].words for name in ATTRIBUTES), strict=True))
    if attribute in ATTRIBUTES:
        words = readings[attribute].words
    consistency = Counter(words).most_common(1)[0][1] / len(images) if len(images) > 1 else None
    return {
        "success": float(np.mean(hits[attribute] if attribute in hits else everything)),
        "kept": float(np.mean([hits[name] for name in ATTRIBUTES if name != attribute])),
        "truth_psnr": _mean(psnr(images, truth.target, truth.inside).clamp(max=IDENTICAL_PSNR)),
        "truth_ssim": _mean(ssim(images, truth.target, truth.inside)),
        "truth_distance": _mean(tiny_perceptual_distance(images, truth.target, truth.inside)),
        "saturation_drift": _mean(saturation_drift(images, truth.target, truth.inside)),
        "outside_psnr": _mean(psnr(images, truth.source, truth.outside).clamp(max=IDENTICAL_PSNR)),
        "consistency": consistency,
    }


def target_probability(images: Float[Tensor, "c 3 h w"], truth: Truth, read: Callable) -> float | None:
    """Mean probability the classifier gives the target's word; None for a null edit, which has none."""
    attribute = truth.edit.attribute
    if attribute not in ATTRIBUTES:
        return None
    word = ATTRIBUTES[attribute].index(getattr(truth.edit.target, attribute))
    return float(read(images)[attribute].logits.softmax(dim=1)[:, word].mean())


def _mean(values: Float[Tensor, " c"]) -> float | None:
    """Mean over the views where there is a value."""
    figures = values[~values.isnan()]
    return float(figures.mean()) if len(figures) else None
