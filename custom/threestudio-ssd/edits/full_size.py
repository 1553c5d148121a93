"""An edit at the model's size, carried over to the picture's own: guided upsampling of what changed.

In every small window the change is taken as linear in the colours of the source picture, p = aᵀI + b, as the guided
filter does (He, Sun and Tang, Guided Image Filtering, ECCV 2010, Eqs. 5, 6 and 8, with a colour picture as guide):

    a = (Σ + εU)⁻¹ (mean(I p) - μ mean(p)),    b = mean(p) - aᵀμ,    q = mean(a)ᵀI + mean(b)

a and b are found at the model's size and applied to the picture at its own (He and Sun, Fast Guided Filter,
arXiv:1505.00996), so that the change ends at the edges of the picture, and no change is none to the last bit.
"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from ..images import as_tensor, read_mask, read_rgb

RADIUS = 2
"""Pixels of the model's size that a window reaches from its middle."""
EPSILON = 1e-4
"""ε: colours that vary by less than its root, in [0, 1], count as flat."""


def carried_over(
    picture: Float[Tensor, "1 3 h w"],
    before: Float[Tensor, "1 3 h2 w2"],
    after: Float[Tensor, "1 3 h2 w2"],
    mask: Float[Tensor, "1 1 h w"] | None = None,
) -> Float[Tensor, "1 3 h w"]:
    """A picture with the change of a smaller version of it, in [0, 1].

    Args:
        picture: At its own size, in [0, 1].
        before: The same as the method sees it, before the edit.
        after: After the edit.
        mask: Where it is 0 the picture stays as it is.
    """
    change = after - before
    size = (int(picture.shape[-2]), int(picture.shape[-1]))
    if size[0] * size[1] > change.shape[-2] * change.shape[-1]:
        change = guided_upsampling(change, before, picture)
    elif tuple(change.shape[-2:]) != size:
        change = interpolate(change, size, mode="bicubic", antialias=True, align_corners=False)
    if mask is not None:
        change = torch.where(mask > 0, change, 0.0)
    return (picture + change).clamp(0, 1)


def guided_upsampling(
    values: Float[Tensor, "1 d h2 w2"], guide: Float[Tensor, "1 3 h2 w2"], full_guide: Float[Tensor, "1 3 h w"]
) -> Float[Tensor, "1 d h w"]:
    """Values at the size of a larger guide, with its edges.

    Args:
        values: p, of any range.
        guide: I at their size, in [0, 1].
        full_guide: I at the wanted size.
    """
    guides, means = guide[0], _means(guide)[0]
    products = _means((guides[:, None] * guides[None]).flatten(0, 1)[None])[0].unflatten(0, (3, 3))
    covariances = products - means[:, None] * means[None]
    matrices = covariances.permute(2, 3, 0, 1) + EPSILON * torch.eye(3, device=guide.device)
    channels = []
    for value in values[0]:
        mean = _means(value[None, None])[0, 0]
        shared = _means(guides[None] * value)[0] - means * mean
        slope = torch.linalg.solve(matrices, shared.permute(1, 2, 0)[..., None])[..., 0].permute(2, 0, 1)
        offset = mean - (slope * means).sum(0)
        lines = _means(torch.cat([slope, offset[None]])[None])
        lines = interpolate(lines, tuple(full_guide.shape[-2:]), mode="bilinear", align_corners=False)[0]
        channels.append((lines[:3] * full_guide[0]).sum(0) + lines[3])
    return torch.stack(channels)[None]


def _means(values: Float[Tensor, "1 d h w"]) -> Float[Tensor, "1 d h w"]:
    """Of the window around every pixel, as much of it as lies in the picture."""
    return avg_pool2d(values, 2 * RADIUS + 1, stride=1, padding=RADIUS, count_include_pad=False)


def at_full_size(
    path: str | Path, mask_path: str | None, before: Float[Tensor, "1 3 h w"], after: Float[Tensor, "1 3 h w"]
) -> Float[Tensor, "1 3 h2 w2"]:
    """The picture of a file with an edit of it, at its own size, in [0, 1].

    Args:
        path: The picture.
        mask_path: Where white may change; None: everywhere.
        before: As the method sees it, before the edit.
        after: After the edit.

    Raises:
        SceneFormatError: If a file cannot be read.
    """
    picture = as_tensor(read_rgb(path, "picture")).to(after)
    mask = read_mask(mask_path, "system.mask_picture", picture) if mask_path else None
    return carried_over(picture, before, after, mask)
