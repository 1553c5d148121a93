"""Images of a selection: what may change, as each view shows it."""

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..cameras import Cameras
from ..rendering import coverage, large_enough, render_each
from ..scenes import Scene
from .outlines import Outline, core_of, with_lines
from .selection import Selection

TINT, TINT_STRENGTH = (1.0, 0.45, 0.0), 0.55
OUTLINE, LEFT_OUT = (0.0, 0.9, 1.0), (1.0, 0.0, 0.3)
PREVIEW_SIZE = 384
MAX_UNTRACED = 12
"""Images of a selection that was traced from no masks; one that was has an image of every view it was traced in."""


def preview_images(
    gaussians: Scene, selection: Selection, views: Cameras, background: Float[Tensor, "3"],
    outlines: Sequence[Outline] = (),
) -> Iterator[tuple[str, Float[Tensor, "h w 3"]]]:  # fmt: skip
    """One image a traced view: the selection in orange, the outline of the mask it was traced from in cyan.

    The world's axes go through the middle of the selection and of the outlines, with ticks in world units. A mask that
    contradicted the others and was left out has a red outline. A selection that comes from no masks in images
    images is shown in up to ``MAX_UNTRACED`` training views.

    Args:
        gaussians: The scene.
        selection: What was selected.
        views: Training views.
        background: Behind the scene.
        outlines: Boxes and spheres to draw.

    Yields:
        The view's name and its image in [0, 1], shorter side ``PREVIEW_SIZE``.
    """
    is_selected = selection.is_selected
    outlines = [outline.counted_from(gaussians.offset) for outline in outlines]
    core = core_of(gaussians.means[is_selected] if is_selected.any() else None, outlines)
    for part, evidence in enumerate(selection.evidence or [None]):
        cameras = views if evidence is None else evidence.views
        count = min(MAX_UNTRACED, len(cameras)) if evidence is None else len(cameras)
        for row in torch.linspace(0, len(cameras) - 1, count).round().long().tolist():
            camera = cameras[row].scaled(PREVIEW_SIZE / int(min(cameras.widths[row], cameras.heights[row])))
            drawn = large_enough(gaussians, camera)
            image = next(render_each(gaussians, drawn, background))
            image = _enlarged(tinted(image, coverage(gaussians, is_selected, drawn)[0]), camera)
            if evidence is not None:
                color = OUTLINE if evidence.is_trusted[row] else LEFT_OUT
                image = _outlined(image, evidence.masks[row], color)
            image = with_lines(image, camera, core, outlines)
            prefix = f"{part + 1}-" if len(selection.evidence) > 1 else ""
            yield f"{prefix}{cameras.names[row].replace('/', '_')}", image.cpu()


def tinted(image: Float[Tensor, "h w 3"], share: Float[Tensor, "h w"]) -> Float[Tensor, "h w 3"]:
    """An image with a selection in orange.

    Args:
        image: In [0, 1].
        share: How much of each pixel the selection makes up.
    """
    return image + TINT_STRENGTH * share.clamp(0, 1)[..., None] * (image.new_tensor(TINT) - image)


def save_previews(
    saver: Any, gaussians: Scene, selection: Selection, views: Cameras, background: Float[Tensor, "3"],
    outlines: Sequence[Outline] = (),
) -> list[str]:  # fmt: skip
    """Write ``mask/<view>.png`` for each view and ``selection.npy`` below the saver's folder.

    Args:
        saver: A ``SaverMixin``.
        gaussians: The scene.
        selection: What was selected.
        views: Training views.
        background: Behind the scene.
        outlines: Boxes and spheres to draw.

    Returns:
        Paths of the images.
    """
    saver.save_data("selection", selection.is_selected.cpu())
    images = preview_images(gaussians, selection, views, background, outlines)
    return [saver.save_rgb_image(f"mask/{name}.png", image) for name, image in images]


def _enlarged(image: Float[Tensor, "h w 3"], camera: Cameras) -> Float[Tensor, "h2 w2 3"]:
    """An image at the size of a view."""
    width, height = int(camera.widths[0]), int(camera.heights[0])
    if image.shape[:2] == (height, width):
        return image
    return torch.from_numpy(cv2.resize(image.cpu().numpy(), (width, height), interpolation=cv2.INTER_CUBIC))


def _outlined(image: Tensor, mask: Tensor, color: tuple[float, float, float]) -> Tensor:
    """The image with a thin line around the mask."""
    height, width = image.shape[:2]
    drawn = np.ascontiguousarray(image.cpu().numpy(), dtype=np.float32)
    inside = cv2.resize(mask.float().cpu().numpy(), (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
    lines, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, lines, -1, color, 1)
    return torch.from_numpy(drawn)
