"""From masks in images to a selection of Gaussians, by visible weight and by the views' agreement."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate

from ..cameras import Cameras
from ..rendering import large_enough, render
from ..scenes import Scene

MIN_VISIBLE_WEIGHT = 1e-3
"""Pixels' worth of weight below which a Gaussian counts as never seen."""
TRUST, BEST_VIEWS = 0.8, 0.75
"""A view is left out when its mask overlaps the selection less than the first share of what this quantile's does."""
WHOLE_IMAGE = 0.98
"""A mask that covers more of an image says nothing about where the object ends."""
MAX_ROUNDS = 8
"""Votes are counted again until no view changes sides, at most so often."""


@dataclass(frozen=True)
class Trace:
    """What masks in several views say about the Gaussians.

    Attributes:
        is_selected: (n) more than the threshold of its visible weight lies under the masks of trusted views.
        is_seen: (n) visible in a trusted view.
        weights: (n) visible weight in trusted views, pixels.
        agreements: (c) overlap of each mask with the selection as that view shows it, intersection over union.
        is_trusted: (c) views whose masks were counted.
    """

    is_selected: Bool[Tensor, "n"]
    is_seen: Bool[Tensor, "n"]
    weights: Float[Tensor, "n"]
    agreements: Float[Tensor, "c"]
    is_trusted: Bool[Tensor, "c"]


def weights_by_view(
    gaussians: Scene, cameras: Cameras, masks: Float[Tensor, "c h w"], inside: Float[Tensor, "c h w"] | None = None
) -> Iterator[tuple[Float[Tensor, "n"], Float[Tensor, "n"]]]:
    """Each Gaussian's weight under the mask and its weight in all, one view at a time, in pixels.

    A render is linear in colour, so the gradient of sum(mask * render) with respect to a Gaussian's colour is the sum
    of its blending weights alpha * T under the mask: front-weighted, from any rasteriser, both sums in one pass.

    Args:
        gaussians: The scene.
        cameras: Views, all of the masks' size.
        masks: In [0, 1].
        inside: Where the masks say something, in [0, 1]; None: everywhere. Elsewhere there is no weight at all.
    """
    fixed = gaussians.detach()
    for index in range(len(cameras)):
        colors = torch.zeros(len(gaussians), 2, device=fixed.device, requires_grad=True)
        with torch.enable_grad():
            images, _ = render(fixed, cameras[index], torch.zeros(2), colors)
            counted = torch.ones_like(images[0, ..., 1]) if inside is None else inside[index].to(images)
            mask = masks[index].to(images).minimum(counted)
            overlap = (images[0, ..., 0] * mask + images[0, ..., 1] * counted).sum()
        (weights,) = torch.autograd.grad(overlap, colors)
        yield weights[:, 0], weights[:, 1]


def visible_weights(
    gaussians: Scene, cameras: Cameras, masks: Float[Tensor, "c h w"]
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """Each Gaussian's weight under the masks and its weight in all, summed over views, in pixels.

    Args:
        gaussians: The scene.
        cameras: Views, all of the masks' size.
        masks: In [0, 1].
    """
    masked, total = gaussians.means.new_zeros(2, len(gaussians))
    for under, whole in weights_by_view(gaussians, cameras, masks):
        masked += under
        total += whole
    return masked, total


def trace_views(
    gaussians: Scene,
    cameras: Cameras,
    masks: Float[Tensor, "c h w"],
    threshold: float = 0.5,
    inside: Float[Tensor, "c h w"] | None = None,
) -> Trace:
    """Trace masks, leaving out views that contradict the others.

    A Gaussian is selected when more than ``threshold`` of its visible weight lies under the masks. The sum of the
    selection's weights under a mask is the overlap of mask and selection as that view shows it, so how well each view
    agrees costs no render; views far below the better ones are left out and the votes counted again, never more than
    half of the views. The first count gives each view one vote a Gaussian, by the root of its weight there, so that a
    wrong mask seen from near does not outvote several right ones from afar, and hears only views that side with most:
    what nobody but a few wrong neighbours sees is not theirs to decide. Masks that cover the whole image count only
    where most do.

    Args:
        gaussians: The scene.
        cameras: Views, all of the masks' size.
        masks: In [0, 1].
        threshold: Share of visible weight, in (0, 1).
        inside: Where the masks say something, in [0, 1]; None: everywhere.
    """
    inside = torch.ones_like(masks) if inside is None else inside
    cameras = large_enough(gaussians, cameras)
    masks, inside = (_resized(maps, cameras) for maps in (masks, inside))
    by_view = weights_by_view(gaussians, cameras, masks, inside)
    masked, total = (torch.stack(rows) for rows in zip(*by_view, strict=True))
    pixels, pixels_inside = (maps.to(masked).flatten(1).sum(dim=1) for maps in (masks.minimum(inside), inside))
    is_whole = pixels > WHOLE_IMAGE * pixels_inside
    says_something = ~is_whole | (is_whole.float().mean() > 0.5)
    votes = total.sqrt() * (_consensus(masked, total) * says_something)[:, None]
    is_selected = (votes * (masked > threshold * total)).sum(dim=0) > 0.5 * votes.sum(dim=0)
    is_trusted = torch.zeros_like(says_something)
    for number in range(MAX_ROUNDS):
        agreements = _overlaps(masked, total, pixels, is_selected)
        least = torch.minimum(TRUST * agreements[says_something].quantile(BEST_VIEWS), agreements.median())
        agrees = (agreements >= least) & says_something
        if number and torch.equal(agrees, is_trusted):
            break
        is_trusted = agrees
        under, whole = masked[is_trusted].sum(dim=0), total[is_trusted].sum(dim=0)
        is_selected = (under > threshold * whole) & (whole > MIN_VISIBLE_WEIGHT)
    return Trace(is_selected, torch.gt(whole, MIN_VISIBLE_WEIGHT), whole, agreements, is_trusted)


def _resized(maps: Float[Tensor, "c h w"], cameras: Cameras) -> Float[Tensor, "c h2 w2"]:
    """Means of masks over the pixels of smaller views."""
    size = int(cameras.heights[0]), int(cameras.widths[0])
    return maps if maps.shape[1:] == size else interpolate(maps[:, None].float(), size, mode="area")[:, 0]


def _consensus(masked: Float[Tensor, "c n"], total: Float[Tensor, "c n"]) -> Float[Tensor, "c"]:
    """How far each view sides with most, 0 for those on the other side.

    Two views agree by 1 - 4 times the mean squared difference of their masked shares, over the Gaussians that both see:
    1 for the same, -3 for the opposite, 0 for one that says 0.5 to all. The leading eigenvector of these agreements
    is the split into two camps that they support best.
    """
    sight, share = total.sqrt(), masked / total.clamp_min(MIN_VISIBLE_WEIGHT)
    squares, products = (sight * share.square()) @ sight.T, (sight * share) @ (sight * share).T
    difference = (squares + squares.T - 2 * products) / (sight @ sight.T).clamp_min(MIN_VISIBLE_WEIGHT)
    camps = torch.linalg.eigh((1 - 4 * difference).double().cpu()).eigenvectors[:, -1].to(total)
    return (camps * camps.sum().sign()).clamp_min(0)


def _overlaps(
    masked: Float[Tensor, "c n"],
    total: Float[Tensor, "c n"],
    pixels: Float[Tensor, "c"],
    is_selected: Bool[Tensor, "n"],
) -> Float[Tensor, "c"]:
    """Soft intersection over union of each mask with the selection as that view shows it; 1 where both are empty."""
    chosen = is_selected.to(masked)
    shared = masked @ chosen
    union = total @ chosen + pixels - shared
    return torch.where(union > 1, shared / union.clamp_min(1), torch.ones_like(union))
