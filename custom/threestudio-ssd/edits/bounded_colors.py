"""Colours that cannot run away: each Gaussian's stays a colour, and what depends on the view follows it."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..gaussians.sh import C0, rgbs_from_sh0
from .inward import inward_clamp

DARKEST = 0.05
"""Added to a brightness that something is divided by, so that black has a shade as well."""
ROUNDING = 1e-5
"""A view-dependent part that goes past its bound by no more than this share is left as it is."""


def brightness(rgbs: Float[Tensor, "n 3"]) -> Float[Tensor, "n 1"]:
    """What a change of colour is in proportion to: the mean of the channels, and a little for black; > 0."""
    return rgbs.mean(dim=-1, keepdim=True).clamp_min(0) + DARKEST


def bounded_sh0(sh0: Float[Tensor, "n 1 3"], sh0_src: Float[Tensor, "n 1 3"]) -> Float[Tensor, "n 1 3"]:
    """Degree-0 coefficients whose colours lie in [0, 1], or no further out than the source's do.

    A bound of pixels does not bound Gaussians: colours far out of range, seen through one another, give pixels that
    look right from the training views and wrong from any other.

    Args:
        sh0: As optimised; a gradient that leads further out is dropped.
        sh0_src: Of the same Gaussians before the edit.
    """
    white = 0.5 / C0
    return inward_clamp(sh0, sh0_src.clamp(max=-white), sh0_src.clamp(min=white))


def following_shN(
    shN: Float[Tensor, "n rest 3"],
    sh0: Float[Tensor, "n 1 3"],
    shN_src: Float[Tensor, "n rest 3"],
    sh0_src: Float[Tensor, "n 1 3"],
) -> Float[Tensor, "n rest 3"]:
    """The view-dependent part under a new colour: shN + (sh0 - sh0_src) m / s, scaled down where it would go too far.

    m is the mean of the source's shN over channels, s the brightness of its colour: from a side where the source is
    brighter by some share, the change of colour is larger by the same share. Where colour and shN are the source's,
    the result is shN to the bit.

    The view-dependent part of degree l is at most |shN_l| sqrt((2l + 1) / 4 pi) in any direction (Cauchy-Schwarz and
    the addition theorem). Each channel is scaled down until no direction can leave [0, 1] by more than the source's
    may.

    Args:
        shN: As optimised.
        sh0: As shown, see ``bounded_sh0``.
        shN_src: Before the edit.
        sh0_src: Before the edit.
    """
    if shN.shape[1] == 0:
        return shN
    rgbs_src, rgbs = (rgbs_from_sh0(values[:, 0]) for values in (sh0_src, sh0))
    share = shN_src.mean(dim=-1, keepdim=True) / brightness(rgbs_src)[:, None]
    following = shN + (sh0 - sh0_src) * (share * C0)
    with torch.no_grad():
        reach, reach_src = farthest(following), farthest(shN_src)
        excess = torch.maximum(reach_src - rgbs_src, rgbs_src + reach_src - 1).clamp_min(0)
        room = torch.minimum(rgbs, 1 - rgbs).clamp_min(0) + excess
        scale = torch.where(reach > room * (1 + ROUNDING), room / reach, torch.ones_like(reach))
    return following * scale[:, None]


def farthest(shN: Float[Tensor, "n rest 3"]) -> Float[Tensor, "n 3"]:
    """A bound of the view-dependent colour over all directions, by channel."""
    total, start, degree = shN.new_zeros(len(shN), 3), 0, 1
    while start < shN.shape[1]:
        count = 2 * degree + 1
        total = total + shN[:, start : start + count].norm(dim=1) * math.sqrt(count / (4 * math.pi))
        start, degree = start + count, degree + 1
    return total
