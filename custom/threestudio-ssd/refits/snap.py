"""Edited views against the empty scene: what differs is the new object, the rest is put back."""

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d, pad

WINDOW = 3
"""Side of the square that differences are averaged over, pixels."""
SHADE = (0.7, 1.5)
"""What has the hue of what is behind it and is so much darker or brighter is a shadow, or no longer one: no object."""
EDGE_WINDOW, EDGE, STRONG = 7, (0.3, 0.6), 0.5
"""An outline runs where the difference has nearly half of what it has nearby, or of the third number where that is
less: window in pixels, and the shares between which a pixel goes from outside to inside."""
RIM = 2
"""Pixels of the rim of weak parts."""
THIN, THIN_WEAK = 3, 4
"""Parts that are thinner are none, pixels; the same of weak ones."""
SMALL = 0.05
"""Connected parts with less than this share of the largest one's pixels are no part of the object."""


def changed_shares(
    images: Float[Tensor, "b 3 h w"], empty: Float[Tensor, "b 3 h w"], *, sure: float, soft: float, weak: float
) -> Float[Tensor, "b 1 h w"]:
    """How far each pixel belongs to the new object, in [0, 1].

    The difference of a pixel is that of its most different channel, averaged over its neighbourhood, and a shadow is
    none. Differences grow into the object from 0 at ``soft`` to 1 at ``sure``. Its outline runs where they have nearly
    half of what they have nearby, for a soft outline would make it larger. Thick connected parts above ``weak`` that
    touch a sure pixel belong to it as well (hysteresis, as in Canny 1986): so stems and trunks whose colour is near
    the ground's stay.

    Args:
        images: Edited views, [0, 1].
        empty: The same views of the scene without an object.
        sure: Difference from which on a pixel is the object's.
        soft: Difference up to which a pixel that touches nothing sure is not; below ``sure``.
        weak: Difference that is enough beside the object.
    """
    brightness = (images * empty).sum(1, keepdim=True) / empty.square().sum(1, keepdim=True).clamp_min(1e-4)
    shade = brightness.clamp(*SHADE)
    difference = (images - shade * empty).abs().amax(dim=1, keepdim=True)
    difference = avg_pool2d(pad(difference, (WINDOW // 2,) * 4, mode="replicate"), WINDOW, stride=1)
    nearby = max_pool2d(difference, EDGE_WINDOW, stride=1, padding=EDGE_WINDOW // 2).clamp_max(STRONG)
    inner = ((difference / nearby.clamp_min(1e-6) - EDGE[0]) / (EDGE[1] - EDGE[0])).clamp(0, 1)
    alone = ((difference - soft) / (sure - soft)).clamp(0, 1) * inner
    alone = alone * _opened(alone > 0, THIN)
    thick = touching(_opened(difference > weak, THIN_WEAK), difference > sure)
    shares = torch.maximum(alone, _eroded(thick).to(images))
    return shares * _main_parts(shares > 0)


def _eroded(masks: Tensor) -> Tensor:
    """Masks (b 1 h w) without the rim that averaging and a soft outline give weak parts."""
    return -max_pool2d(-masks.float(), 2 * RIM + 1, stride=1, padding=RIM) > 0


def _opened(masks: Tensor, thickness: int) -> Tensor:
    """Masks (b 1 h w) without what is thinner, pixels, such as a horizon that was moved a little."""
    kernel = np.ones((thickness, thickness), np.uint8)
    opened = [cv2.morphologyEx(each.cpu().numpy().astype(np.uint8), cv2.MORPH_OPEN, kernel) for each in masks[:, 0]]
    return torch.from_numpy(np.stack(opened)).to(masks.device)[:, None] > 0


def _main_parts(masks: Tensor) -> Tensor:
    """Masks (b 1 h w) without connected parts that are small beside the largest."""
    kept = []
    for each in masks[:, 0]:
        _, labels, stats, _ = cv2.connectedComponentsWithStats(each.cpu().numpy().astype(np.uint8), connectivity=8)
        areas = stats[:, cv2.CC_STAT_AREA].astype(float)
        areas[0] = 0
        kept.append(torch.from_numpy((areas >= SMALL * areas.max()) & (areas > 0))[torch.from_numpy(labels).long()])
    return torch.stack(kept).to(masks.device)[:, None]


def touching(weak: Tensor, sure: Tensor) -> Tensor:
    """Connected parts of weak pixels (b 1 h w) that hold a sure one; diagonal neighbours are connected."""
    parts = []
    for each, seeds in zip(weak[:, 0], sure[:, 0], strict=True):
        _, labels = cv2.connectedComponents(each.cpu().numpy().astype(np.uint8), connectivity=8)
        kept = np.setdiff1d(np.unique(labels[seeds.cpu().numpy()]), [0])
        parts.append(torch.from_numpy(np.isin(labels, kept)))
    return torch.stack(parts)[:, None].to(weak.device)
