"""Edited views against the empty scene: what differs is the new object, the rest is put back."""

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

WINDOW = 3
"""Side of the square that differences are averaged over, pixels."""


def changed_shares(
    images: Float[Tensor, "b 3 h w"], empty: Float[Tensor, "b 3 h w"], *, sure: float, soft: float, weak: float
) -> Float[Tensor, "b 1 h w"]:
    """How far each pixel belongs to the new object, in [0, 1].

    The difference of a pixel is that of its most different channel, averaged over its neighbourhood. Differences grow
    into the object from 0 at ``soft`` to 1 at ``sure``. Connected parts above ``weak`` that touch a sure pixel belong
    to it as a whole (hysteresis, as in Canny 1986): so stems and trunks whose colour is near the ground's stay.

    Args:
        images: Edited views, [0, 1].
        empty: The same views of the scene without an object.
        sure: Difference from which on a pixel is the object's.
        soft: Difference up to which a pixel that touches nothing sure is not; below ``sure``.
        weak: Difference that is enough beside the object.
    """
    difference = (images - empty).abs().amax(dim=1, keepdim=True)
    difference = avg_pool2d(pad(difference, (WINDOW // 2,) * 4, mode="replicate"), WINDOW, stride=1)
    alone = ((difference - soft) / (sure - soft)).clamp(0, 1)
    return torch.maximum(alone, touching(difference > weak, difference > sure).to(images))


def touching(weak: Tensor, sure: Tensor) -> Tensor:
    """Connected parts of weak pixels (b 1 h w) that hold a sure one; diagonal neighbours are connected."""
    parts = []
    for each, seeds in zip(weak[:, 0], sure[:, 0], strict=True):
        _, labels = cv2.connectedComponents(each.cpu().numpy().astype(np.uint8), connectivity=8)
        kept = np.setdiff1d(np.unique(labels[seeds.cpu().numpy()]), [0])
        parts.append(torch.from_numpy(np.isin(labels, kept)))
    return torch.stack(parts)[:, None].to(weak.device)
