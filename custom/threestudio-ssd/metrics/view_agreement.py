"""Whether edited views agree with each other, before anything is fitted to them: one surface point, one colour."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

from .regions import check_images


class ViewAgreement(NamedTuple):
    """How well views agree.

    Attributes:
        difference: Mean absolute difference of the colours that two views give a point that both see, in [0, 1];
            0: they agree. None where no two views see the same point.
        num_pairs: Pixels that were compared with another view.
    """

    difference: float | None
    num_pairs: int


def view_agreement(
    images: Float[Tensor, "b 3 h w"],
    depths: Float[Tensor, "b 1 h w"],
    viewmats: Float[Tensor, "b 4 4"],
    Ks: Float[Tensor, "b 3 3"],
    masks: Float[Tensor, "b 1 h w"] | None = None,
    tolerance: float = 0.02,
) -> ViewAgreement:
    """Compare every two views where they see the same surface.

    Args:
        images: The views in [0, 1].
        depths: Distance along the viewing axis, world units, of a scene that both are views of; 0: nothing there.
        viewmats: World to camera, OpenCV axes.
        Ks: Intrinsics in pixels.
        masks: Pixels above 0.5 are compared with other views; None: all.
        tolerance: Share of the depth by which two views' depths of a point may differ.

    Returns:
        The mean over all pairs of views, each pair in both directions.

    Raises:
        ValueError: If images are not (b 3 h w) in [0, 1].
    """
    check_images(images)
    count, _, height, width = images.shape
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([columns, rows, torch.ones_like(rows)], 0).flatten(1).to(images)
    total, num_pairs = 0.0, 0
    for view in range(count):
        is_surface = depths[view, 0] > 0
        is_compared = is_surface if masks is None else is_surface & (masks[view, 0] > 0.5)
        chosen = is_compared.flatten()
        in_camera = torch.linalg.inv(Ks[view]) @ pixels[:, chosen] * depths[view].flatten()[chosen]
        rotation, translation = viewmats[view, :3, :3], viewmats[view, :3, 3:]
        points, colors = rotation.T @ (in_camera - translation), images[view].flatten(1)[:, chosen]
        for other in range(count):
            if other == view:
                continue
            moved = viewmats[other, :3, :3] @ points + viewmats[other, :3, 3:]
            in_front = moved[2] > 0
            x, y = (Ks[other] @ moved)[:2] / moved[2].clamp_min(1e-9)
            is_inside = in_front & (x > 0) & (x < width) & (y > 0) & (y < height)
            grid = torch.stack([2 * x / width - 1, 2 * y / height - 1], -1)[None, None]
            seen = _sampled(images[other], grid, "bilinear")
            depth = _sampled(depths[other], grid, "nearest")[0]
            is_same = is_inside & (depth > 0) & ((depth - moved[2]).abs() <= tolerance * moved[2])
            total += float((seen - colors).abs().mean(0)[is_same].sum())
            num_pairs += int(is_same.sum())
    return ViewAgreement(total / num_pairs if num_pairs else None, num_pairs)


def _sampled(image: Float[Tensor, "c h w"], grid: Float[Tensor, "1 1 n 2"], mode: str) -> Float[Tensor, "c n"]:
    return grid_sample(image[None], grid, mode=mode, align_corners=False, padding_mode="border")[0, :, 0]
