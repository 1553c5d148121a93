"""The judge of toy edits: does a result look like what was asked for?

A classifier alone is easily pleased: it reads "wood" in lava and "snow" in violet slabs. So a view passes only if the
classifier reads the word *and* the picture holds against the truth in the ways that an eye would notice. The limits
were set on pictures that were judged by eye, see ``tests/assets/verdicts``.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import interpolate, one_hot, pad

from ..images import luminance, resized
from ..metrics import (
    IDENTICAL_PSNR,
    gaussian_blur,
    mask_iou,
    psnr,
    saturation_drift,
    ssim,
    tiny_perceptual_distance,
)  # fmt: skip
from .classifier import classifier_checksum, load_classifier
from .edits import NULL, OBJECT_ATTRIBUTES, ToyEdit
from .truth import Truth
from .vocabulary import ATTRIBUTES
from .world import PART_OBJECT

JUDGE_VERSION = 2
"""Goes up when the judge computes anything else; kept results of another version are not taken."""
JUDGED_SIZE = 64
"""Side at which pictures are judged, pixels; larger ones are shrunk."""


@dataclass(frozen=True)
class Limits:
    """What a view must reach to pass."""

    min_null_psnr: float = 37.0
    """dB of the blurred view to the source, for a null edit. An exact result that went through the autoencoder has
    43 dB and more; changes that were seen had at most 32 dB."""
    min_blurred_psnr: float = 17.0
    """dB of the blurred view to the truth, for every other edit: a floor, whatever the source was like."""
    min_arrived: float = 0.7
    """Share of the pixels to be changed whose blurred colour made at least half of its way to the truth.
    A half-painted object stays below. Not asked of patterns, whose phase is free. The light on a new object and how
    bright a new colour is are free, so both are measured at their best brightness."""
    min_silhouette_iou: float = 0.83
    """Overlap of the object's silhouette with the truth's, for edits of the object, its colour or its pattern."""
    max_outline_fault: float = 0.55
    """Largest share of a small neighbourhood that belongs to one of the two silhouettes alone, for a new object: a
    trunk or a neck that is not there, a corner that is rounded off. All of these overlap well as a whole."""
    min_object_ssim: float = 0.67
    """Structural similarity of the object to the truth: lost wheels, melted bodies. Not asked of an object that is to
    get a pattern."""
    min_recolored_ssim: float = 0.5
    """The same for an object that is to get another colour or to lose its pattern: how bright it becomes is free."""
    max_mottle: float = 0.07
    """RMS difference to the truth at sizes of 1 to 6 pixels, within the object: speckles, blotches, torn outlines. A
    difference in one tone does not count. Not asked of an object that is to get a pattern."""
    min_pattern: float = 0.8
    """Share of the object where the pattern has at least half of the truth's local contrast, for an object that is to
    get a pattern. Pale smears stay below."""
    max_color_distance: float = 0.125
    """Distance of the colours in each part of the picture (object, ground, sky) to the truth's colours there, wherever
    in the part they are. Brown skies, lava and violet snow are beyond. The object of a colour edit is free: the word
    does not say how bright its colour is."""
    max_strange: float = 0.04
    """Share of the pixels off the object whose colour is nowhere in the truth: rainbows and blotches."""


LIMITS = Limits()

BLUR = 2.0
"""Standard deviation of "blurred", pixels: what remains has no texture, and outlines may be a pixel off."""
CHANGED = 0.08
"""RMS difference of source and truth, both blurred, from which on a pixel is one that the edit should change."""
BRIGHTNESS = (0.5, 2.0)
"""Factors by which a new colour or a new object may be darker or brighter than the truth and count as arrived."""
FAULT_BLUR = 1.5
"""Standard deviation of the neighbourhood in which an outline may be wrong, pixels."""
MOTTLE_BAND = (1.0, 6.0)
"""Standard deviations between which a difference to the truth counts as mottle, pixels."""
PATTERN_BLUR, PATTERN_WINDOW = 3.0, 3.0
"""What is finer than the first is pattern; its contrast is a mean under a window of the second, pixels."""
MIN_PART = 0.02
"""Share of the view from which on a part of the picture is looked at."""
NUM_PALETTE = 64
"""Colours of the object that a pixel is compared with to find the silhouette."""
COLOR_DIRECTIONS = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (1, -1, 0), (0, 1, -1), (1, 0, -1))
"""Directions in RGB along which distributions of colours are compared."""
STRANGE_BLUR, STRANGE_STRIDE, STRANGE_DISTANCE = 0.7, 8, 0.12
"""A pixel is strange when its colour, blurred by the first, is further than the third (in RGB) from every one of the
truth's; one truth pixel of so many is looked at."""


class ViewFigures(NamedTuple):
    """What the judge sees in each view; NaN where a figure has no meaning for the edit. See ``Limits``."""

    shows_word: Bool[Tensor, " c"]
    blurred_psnr: Float[Tensor, " c"]
    arrived: Float[Tensor, " c"]
    silhouette_iou: Float[Tensor, " c"]
    outline_fault: Float[Tensor, " c"]
    object_ssim: Float[Tensor, " c"]
    mottle: Float[Tensor, " c"]
    pattern: Float[Tensor, " c"]
    color_distance: Float[Tensor, " c"]
    strange: Float[Tensor, " c"]

    def passes(self, edit: ToyEdit, limits: Limits = LIMITS) -> Bool[Tensor, " c"]:
        """Which views a picky user would accept.

        Args:
            edit: What was asked for. For a null edit closeness to the source decides alone: the classifier knows
                nothing better of a picture that is all but the source.
            limits: What a view must reach.
        """
        if edit.attribute == NULL:
            return self.blurred_psnr >= limits.min_null_psnr
        is_recolored = edit.attribute in ("color", "pattern")
        has_failed = (
            ~self.shows_word
            | (self.blurred_psnr < limits.min_blurred_psnr)
            | (self.arrived < limits.min_arrived)
            | (self.silhouette_iou < limits.min_silhouette_iou)
            | (self.outline_fault > limits.max_outline_fault)
            | (self.object_ssim < (limits.min_recolored_ssim if is_recolored else limits.min_object_ssim))
            | (self.mottle > limits.max_mottle)
            | (self.pattern < limits.min_pattern)
            | (self.color_distance > limits.max_color_distance)
            | (self.strange > limits.max_strange)
        )
        return ~has_failed


def judge_fingerprint() -> dict[str, Any]:
    """What decides a verdict, for benchmarks that keep verdicts: version, limits and the classifier's checksum."""
    return {"version": JUDGE_VERSION, **dataclasses.asdict(LIMITS), "classifier": classifier_checksum()}


def judge_images(
    images: Float[Tensor, "c 3 h w"], truth: Truth, read: Callable | None = None
) -> dict[str, float | None]:
    """Measure a result; None where a figure has no meaning.

    Args:
        images: The result at the truth's cameras, in [0, 1].
        truth: What it should be.
        read: The attribute classifier; None loads the embedded one.

    Returns:
        ``success`` (share of views that pass, see ``Limits``), what it is made of: ``shows_word`` (share of views
        whose target attribute is read; all five for a null edit) and the means of the other ``ViewFigures``;
        ``kept`` (share of the other attributes that are read), ``truth_psnr truth_ssim truth_distance
        saturation_drift`` (inside, to the truth), ``outside_psnr`` (to the source), ``consistency`` (share of views
        that agree on the attribute).
    """
    readings = (read or load_classifier())(images)
    wanted, attribute = truth.edit.target, truth.edit.attribute
    hits = {name: np.array([word == getattr(wanted, name) for word in readings[name].words]) for name in ATTRIBUTES}
    words = list(zip(*(readings[name].words for name in ATTRIBUTES), strict=True))
    if attribute in ATTRIBUTES:
        words = readings[attribute].words
    consistency = Counter(words).most_common(1)[0][1] / len(images) if len(images) > 1 else None
    shows_word = hits[attribute] if attribute in hits else np.all(list(hits.values()), axis=0)
    figures = view_figures(images, truth, torch.from_numpy(shows_word))
    return {
        "success": float(figures.passes(truth.edit).float().mean()),
        **{name: _mean(values.float()) for name, values in figures._asdict().items()},
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


def luminance_slope(images: Float[Tensor, "c 3 h w"], truth: Truth) -> float:
    """How a result's light and shade follow the truth's: the slope of its luminance on the truth's, inside.

    1 is right, 0 is flat, more than 1 is too much contrast.
    """
    x, y = (luminance(stack.movedim(1, -1)[truth.inside]) for stack in (truth.target, images))
    return float(((x - x.mean()) * (y - y.mean())).mean() / (x - x.mean()).square().mean())


def view_figures(images: Float[Tensor, "c 3 h w"], truth: Truth, shows_word: Bool[Tensor, " c"]) -> ViewFigures:
    """Compare each view with the truth, at the size at which pictures are judged.

    Args:
        images: The result at the truth's cameras, in [0, 1].
        truth: What it should be.
        shows_word: Whether the classifier reads the target attribute.
    """
    size = (JUDGED_SIZE, JUDGED_SIZE)
    stacks = (images, truth.source, truth.target, truth.backdrop)
    result, source, target, backdrop = (resized(stack, size) for stack in stacks)
    inside, parts = _shrunk(truth.inside.long()) > 0, _shrunk(truth.parts)
    attribute, is_object = truth.edit.attribute, parts == PART_OBJECT
    result_blur, source_blur, target_blur = (gaussian_blur(stack, BLUR) for stack in (result, source, target))
    figures: dict[str, Tensor] = {"shows_word": shows_word}
    figures["blurred_psnr"] = psnr(result_blur, target_blur).clamp(max=IDENTICAL_PSNR)
    if attribute == NULL:
        return _with_nan(figures)
    about_object = is_object | inside if attribute in OBJECT_ATTRIBUTES else is_object
    looked_at = parts.masked_fill(is_object, -1) if attribute == "color" else parts
    figures["color_distance"] = color_distances(result, target, looked_at)
    figures["strange"] = strange_shares(result, target, ~about_object)
    if attribute != "pattern":
        is_brightness_free = attribute in ("color", "object")
        figures["arrived"] = arrived_shares(
            result_blur, source_blur, target_blur, inside, is_brightness_free=is_brightness_free
        )
    if attribute in OBJECT_ATTRIBUTES:
        outlined = silhouettes(result, target, backdrop, is_object)
        figures["silhouette_iou"] = mask_iou(*outlined)
        if attribute == "object":
            figures["outline_fault"] = outline_faults(*outlined)
    if attribute == "pattern" and truth.edit.target.pattern != "plain":
        figures["pattern"] = pattern_shares(result, target, is_object)
    else:
        figures["object_ssim"] = ssim(result, target, about_object)
        figures["mottle"] = mottle(result, target, is_object)
    return _with_nan(figures)


def arrived_shares(
    result: Float[Tensor, "c 3 h w"],
    source: Float[Tensor, "c 3 h w"],
    target: Float[Tensor, "c 3 h w"],
    inside: Bool[Tensor, "c h w"],
    *,
    is_brightness_free: bool = False,
) -> Float[Tensor, " c"]:
    """Share of the pixels to be changed that are at most half as far from the truth as the source is.

    Args:
        result: Views of the result, blurred.
        source: Before the edit, blurred.
        target: As it should be, blurred.
        inside: What the edit is about.
        is_brightness_free: Whether a pixel is measured at its best brightness, within ``BRIGHTNESS``.
    """
    if is_brightness_free:
        factors = (result * target).sum(1, keepdim=True) / result.square().sum(1, keepdim=True).clamp_min(1e-4)
        result = result * factors.clamp(*BRIGHTNESS)
    left, way = ((stack - target).square().mean(1) for stack in (result, source))
    is_changed = inside & (way.sqrt() > CHANGED)
    return (is_changed & (left < way / 4)).sum((1, 2)) / is_changed.sum((1, 2))


def silhouettes(
    result: Float[Tensor, "c 3 h w"],
    target: Float[Tensor, "c 3 h w"],
    backdrop: Float[Tensor, "c 3 h w"],
    is_object: Bool[Tensor, "c h w"],
) -> tuple[Bool[Tensor, "c h w"], Bool[Tensor, "c h w"]]:
    """The object's silhouettes in result and truth, both found by the same rule.

    A pixel belongs to the object if its colour is nearer to one of the true object's than to the backdrop's there.
    Both silhouettes are found so, because an object can look like its backdrop: white stripes before snow.
    """
    ours, theirs = [], []
    for image, true, behind, mask in zip(result, target, backdrop, is_object, strict=True):
        colors = true[:, mask]
        palette = colors[:, :: max(1, colors.shape[1] // NUM_PALETTE)]
        around = pad(behind[None], (1,) * 4, mode="replicate")[0].unfold(1, 3, 1).unfold(2, 3, 1).flatten(3)
        for picture, masks in ((image, ours), (true, theirs)):
            pixels = picture[..., None]
            to_object = (pixels - palette[:, None, None]).square().sum(0).amin(-1)
            masks.append(to_object < (pixels - around).square().sum(0).amin(-1))
    return torch.stack(ours), torch.stack(theirs)


def outline_faults(ours: Bool[Tensor, "c h w"], theirs: Bool[Tensor, "c h w"]) -> Float[Tensor, " c"]:
    """Where two silhouettes differ most: the largest share of a neighbourhood that belongs to one of them alone.

    A line of one pixel along the outline is 0.27, one of two pixels 0.48, a blob of four by four 0.64.
    """
    differs = (ours ^ theirs)[:, None].float()
    return gaussian_blur(differs, FAULT_BLUR).amax(dim=(1, 2, 3))


def color_distances(
    result: Float[Tensor, "c 3 h w"], target: Float[Tensor, "c 3 h w"], parts: Int[Tensor, "c h w"]
) -> Float[Tensor, " c"]:
    """How far the colours of a part are from the truth's, the worst part of each view; where they are is free.

    It is the sliced Wasserstein distance of the two sets of colours, 0 for equal sets, 1 for black against white along
    each channel.

    Args:
        result: Views of the result.
        target: As it should be.
        parts: Number of the part that each pixel belongs to; below 0: none.
    """
    directions = torch.tensor(COLOR_DIRECTIONS, dtype=result.dtype)
    directions = directions / directions.norm(dim=1, keepdim=True)
    worst = []
    for image, true, part in zip(result, target, parts, strict=True):
        distances = [result.new_zeros(())]
        for number in part.unique().tolist():
            mask = part == number
            if number >= 0 and mask.float().mean() >= MIN_PART:
                ours, theirs = ((directions @ picture[:, mask]).sort(dim=1).values for picture in (image, true))
                distances.append((ours - theirs).square().mean().sqrt())
        worst.append(torch.stack(distances).amax())
    return torch.stack(worst)


def strange_shares(
    result: Float[Tensor, "c 3 h w"], target: Float[Tensor, "c 3 h w"], where: Bool[Tensor, "c h w"]
) -> Float[Tensor, " c"]:
    """Share of the pixels whose colour is nowhere in the truth."""
    pixels, true_colors = (gaussian_blur(stack, STRANGE_BLUR).flatten(2).mT for stack in (result, target))
    pairs = zip(pixels, true_colors[:, ::STRANGE_STRIDE], strict=True)
    nearest = [torch.cdist(*pair, compute_mode="donot_use_mm_for_euclid_dist").amin(1) for pair in pairs]
    distances = torch.stack(nearest).view_as(where)
    return _mean_within((distances > STRANGE_DISTANCE).float(), where)


def mottle(
    result: Float[Tensor, "c 3 h w"], target: Float[Tensor, "c 3 h w"], where: Bool[Tensor, "c h w"]
) -> Float[Tensor, " c"]:
    """RMS of the difference to the truth, without what is finer or coarser than ``MOTTLE_BAND``."""
    fine, coarse = (gaussian_blur(result - target, sigma) for sigma in MOTTLE_BAND)
    return _mean_within((fine - coarse).square().mean(1), where).sqrt()


def pattern_shares(
    result: Float[Tensor, "c 3 h w"], target: Float[Tensor, "c 3 h w"], where: Bool[Tensor, "c h w"]
) -> Float[Tensor, " c"]:
    """Share of the pixels around which the pattern has at least half of the truth's contrast."""
    energies = []
    for stack in (result, target):
        detail = (stack - gaussian_blur(stack, PATTERN_BLUR)).square().sum(1, keepdim=True)
        energies.append(gaussian_blur(detail, PATTERN_WINDOW)[:, 0])
    return _mean_within((energies[0] > energies[1] / 4).float(), where)


def _with_nan(figures: dict[str, Tensor]) -> ViewFigures:
    """The figures, NaN where there is none."""
    nothing = torch.full_like(figures["blurred_psnr"], torch.nan)
    return ViewFigures(*(figures.get(name, nothing) for name in ViewFigures._fields))


def _shrunk(labels: Int[Tensor, "c h w"]) -> Int[Tensor, "c h2 w2"]:
    """Labels at the judged size: the one that makes up most of a pixel."""
    size = (JUDGED_SIZE, JUDGED_SIZE)
    shares = one_hot(labels).permute(0, 3, 1, 2).float()
    return interpolate(shares, size, mode="bilinear", antialias=True, align_corners=False).argmax(1)


def _mean_within(values: Float[Tensor, "c h w"], where: Bool[Tensor, "c h w"]) -> Float[Tensor, " c"]:
    return (values * where).sum((1, 2)) / where.sum((1, 2))


def _mean(values: Float[Tensor, " c"]) -> float | None:
    """Mean over the views where there is a value."""
    figures = values[~values.isnan()]
    return float(figures.mean()) if len(figures) else None
