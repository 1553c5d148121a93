"""Writes an embedded scene: splat, cameras, and mask pictures of its object."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..gaussians.io import save_gaussians
from ..rendering import coverage
from ..toyworld import PART_OBJECT, Attributes, build_scene, sample_camera
from ..toyworld.splat import save_cameras_json, to_cameras, to_gaussians

NUM_CAMERAS, NUM_MASKS, CAPTURE_SIZE, MASK_SIZE = 96, 12, 512, 256
CAMERA_SEED = 77


def write_scene(folder: Path, attributes: Attributes, seed: int) -> None:
    """``scene.ply``, ``cameras.json`` and ``masks/view_*.png`` of one toy scene.

    Args:
        folder: Where the files go.
        attributes: What the scene shows.
        seed: Decides what the attributes leave open.
    """
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    scene = build_scene(attributes, seed)
    gaussians = to_gaussians(scene)
    save_gaussians(gaussians, folder / "scene.ply")
    rng = np.random.default_rng(CAMERA_SEED)
    cameras = to_cameras([sample_camera(rng) for _ in range(NUM_CAMERAS)], CAPTURE_SIZE, CAPTURE_SIZE)
    save_cameras_json(cameras, folder / "cameras.json")
    some = cameras[torch.arange(0, NUM_CAMERAS, NUM_CAMERAS // NUM_MASKS)].resized(MASK_SIZE, MASK_SIZE)
    shown = coverage(gaussians, torch.from_numpy(scene.parts == PART_OBJECT), some)
    for name, mask in zip(some.names, shown, strict=True):
        Image.fromarray((mask.numpy() > 0.5).astype(np.uint8) * 255).save(folder / "masks" / f"{name}.png")
