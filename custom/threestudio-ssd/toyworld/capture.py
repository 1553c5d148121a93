"""A toy scene on disk, as a capture tool would leave it: splat, cameras, masks of a part."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from ..cameras import Cameras
from ..files import write_image
from ..gaussians import Gaussians
from ..gaussians.io import save_gaussians
from ..masks import visible_weights
from ..metrics import edit_regions
from ..rendering import coverage, render_each
from .splat import save_cameras_json, to_gaussians
from .views import capture_views
from .vocabulary import Attributes
from .world import PART_OBJECT, build_scene

NUM_CAMERAS, CAPTURE_SIZE, MASK_SIZE = 96, 512, 256
"""Of an embedded scene: cameras, and the sides of its photographs and of its masks, pixels."""
NUM_MASKS = 12
SEEN = 0.05
"""Gaussians with less than this share of the median visible weight are in no capture."""


def write_scene(folder: Path, attributes: Attributes, seed: int, masked_part: int = PART_OBJECT) -> None:
    """An embedded scene, whole: ``scene.ply``, ``cameras.json``, ``masks/`` and one view as ``view.png``.

    Args:
        folder: Where the files go.
        attributes: What the scene shows.
        seed: Decides what the attributes leave open.
        masked_part: Which part of the scene the masks show, one of ``PART_*``.
    """
    scene, cameras = build_scene(attributes, seed), capture_views(NUM_CAMERAS, CAPTURE_SIZE)
    gaussians = to_gaussians(scene)
    write_capture(folder, gaussians, torch.from_numpy(scene.parts == masked_part), cameras, mask_size=MASK_SIZE)
    image = next(render_each(gaussians, cameras.resized(MASK_SIZE, MASK_SIZE), torch.zeros(3)))
    write_image(folder / "view.png", (image.numpy() * 255).round().astype(np.uint8))


def write_capture(
    folder: Path, gaussians: Gaussians, is_masked: Bool[Tensor, "n"], cameras: Cameras, *, mask_size: int,
    num_masks: int = NUM_MASKS,
) -> None:  # fmt: skip
    """Write ``scene.ply``, ``cameras.json`` and ``masks/<view>.png``.

    Args:
        folder: Where the files go.
        gaussians: The scene.
        is_masked: Which Gaussians the masks show; without any there are no masks.
        cameras: The capture's, square.
        mask_size: Side of the masks, pixels.
        num_masks: How many of the cameras have a mask, evenly spread.
    """
    save_gaussians(gaussians, folder / "scene.ply")
    save_cameras_json(cameras, folder / "cameras.json")
    (folder / "masks").mkdir(exist_ok=True)
    if not is_masked.any():
        return
    views = cameras[torch.arange(0, len(cameras), len(cameras) // num_masks)].resized(mask_size, mask_size)
    masks, _ = edit_regions(coverage(gaussians, is_masked, views))
    for name, mask in zip(views.names, masks, strict=True):
        write_image(folder / "masks" / f"{name}.png", mask.numpy().astype(np.uint8) * 255)


def in_capture(gaussians: Gaussians, cameras: Cameras) -> Bool[Tensor, "n"]:
    """The Gaussians that a capture would have: what no camera sees is not there.

    Args:
        gaussians: The scene as the world makes it.
        cameras: Of one size.
    """
    size = (len(cameras), int(cameras.heights[0]), int(cameras.widths[0]))
    _, weights = visible_weights(gaussians, cameras, torch.ones(size))
    return weights > SEEN * weights.median()
