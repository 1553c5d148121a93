"""Renders of toy scenes with masks and labels: what every embedded model but the InstructPix2Pix learns from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ..cameras import Cameras
from ..gaussians import Gaussians
from ..gaussians.sh import rgbs_from_sh0
from ..rendering import render
from ..toyworld import PART_OBJECT, build_scene, sample_attributes, sample_camera
from ..toyworld.splat import to_cameras, to_gaussians
from .data import Rows, load_shards, write_shards
from .loop import Worker

SCENES_A_SHARD, CAMERAS_A_SCENE, SIZE = 1000, 3, 64
CHOICE_STREAM = 9
"""Which random stream of a scene's seed draws its attributes and cameras."""


@dataclass(frozen=True)
class ToyData(Rows):
    """Renders of the toy world with their labels.

    Attributes:
        images: Renders, 0-255.
        object_masks: Pixels where the object is visible.
        labels: Index of each attribute's word, in the order of ``toyworld.ATTRIBUTES``.
        seeds: The scene of each render; several renders share one.
    """

    images: UInt8[Tensor, "n 3 h w"]
    object_masks: Bool[Tensor, "n h w"]
    labels: Int[Tensor, "n 5"]
    seeds: Int[Tensor, " n"]

    def select(self, rows: Int[Tensor, " b"]) -> "ToyData":
        """These rows alone."""
        return ToyData(self.images[rows], self.object_masks[rows], self.labels[rows], self.seeds[rows])

    def unit_images(self, rows: Tensor) -> Float[Tensor, "b 3 h w"]:
        """Images of these rows in [0, 1]."""
        return self.images[rows].float() / 255


def load_toy_data(folder: Path, *, is_held_out: bool) -> ToyData:
    """Read what ``write_scene_shards`` wrote: the scenes that are held out, or all others.

    Raises:
        ConfigError: If there are no shards, or no such scene in them.
    """
    names = ("images", "object_masks", "attributes", "seeds")
    images, masks, labels, seeds = load_shards(folder, names, is_held_out=is_held_out)
    return ToyData(images.permute(0, 3, 1, 2).contiguous(), masks.bool(), labels.long(), seeds.long())


def evenly_spread(count: int, total: int) -> Int[Tensor, " b"]:
    """``count`` rows of ``total``, first and last among them; all of them if there are no more."""
    return torch.linspace(0, total - 1, min(count, total), dtype=torch.float64).long()


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
