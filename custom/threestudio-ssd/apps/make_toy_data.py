"""Renders the training pictures of the embedded models: shards of toy scenes with masks and labels."""

from pathlib import Path

import numpy as np
import torch

from ..cameras import Cameras
from ..gaussians import Gaussians
from ..gaussians.sh import rgbs_from_sh0
from ..rendering import render
from ..toyworld import PART_OBJECT, build_scene, sample_attributes, sample_camera
from ..toyworld.splat import to_cameras, to_gaussians
from .training import Worker, write_shards

SCENES_A_SHARD, CAMERAS_A_SCENE, SIZE = 1000, 3, 64
CHOICE_STREAM = 9
"""Which random stream of a scene's seed draws its attributes and cameras."""


def write_scene_shards(worker: Worker, folder: Path, num_shards: int, scenes_a_shard: int = SCENES_A_SHARD) -> None:
    """Write shards of images uint8 (n 64 64 3), object_masks (n 64 64), attributes (n 5), seeds (n)."""
    write_shards(worker, folder, num_shards, _scene_views, range(scenes_a_shard))


def _scene_views(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([seed, CHOICE_STREAM])
    attributes = sample_attributes(rng)
    scene = build_scene(attributes, seed)
    cameras = to_cameras([sample_camera(rng) for _ in range(CAMERAS_A_SCENE)], SIZE, SIZE)
    images, masks = _render(to_gaussians(scene), torch.from_numpy(scene.parts == PART_OBJECT), cameras)
    return {
        "images": images,
        "object_masks": masks,
        "attributes": np.tile(attributes.labels(), (CAMERAS_A_SCENE, 1)).astype(np.int64),
        "seeds": np.full(CAMERAS_A_SCENE, seed),
    }


@torch.no_grad()
def _render(gaussians: Gaussians, is_object: torch.Tensor, cameras: Cameras) -> tuple[np.ndarray, np.ndarray]:
    rgbs = rgbs_from_sh0(gaussians.sh0[:, 0])
    colors = torch.cat([rgbs, is_object[:, None].float()], dim=1)
    blended = render(gaussians, cameras, torch.zeros(4), colors)[0]
    images = (blended[..., :3].clamp(0, 1) * 255 + 0.5).to(torch.uint8)
    return images.numpy(), (blended[..., 3] > 0.5).numpy()
