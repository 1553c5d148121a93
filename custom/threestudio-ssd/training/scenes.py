"""Renders of toy scenes with masks and labels: what every embedded model but the InstructPix2Pix learns from."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ..cameras import Cameras
from ..gaussians.sh import rgbs_from_sh0
from ..rendering import render
from ..toyworld import ATTRIBUTES, PART_OBJECT, Attributes, build_scene, object_yaw_deg, sample_view
from ..toyworld.captions import FRAMINGS, framing_of
from ..toyworld.splat import to_cameras, to_gaussians
from ..toyworld.world import ToyScene, View
from .data import Rows, load_shards, write_shards
from .loop import Worker

SCENES_A_SHARD, CAMERAS_A_SCENE, SIZE = 1000, 3, 64
CHOICE_STREAM = 9
"""Which random stream of a scene's seed draws its attributes and cameras."""
FREQUENCIES = {"cube": 1.5, "car": 1.5, "house": 1.5, "dotted": 1.2, "snow": 1.4}
"""How much more often than others of its kind a word is drawn: what is learned last has more scenes."""
EMPTY_SHARE, WIDE_SHARE = 0.07, 0.5
"""Shares of the scenes without an object, and of the cameras that ``sample_view`` draws wide."""


@dataclass(frozen=True)
class ToyData(Rows):
    """Renders of the toy world with their labels.

    Attributes:
        images: Renders, 0-255.
        object_masks: Pixels where the object is visible.
        labels: Index of each attribute's word, in the order of ``toyworld.ATTRIBUTES``.
        seeds: The scene of each render; several renders share one.
        angles_deg: Azimuth of the camera from the object's front, and its elevation, as ``view_words`` takes them.
        framings: Index of the word in ``FRAMINGS`` that says where the object is in the image.
        has_object: Whether there is an object; without one its labels mean nothing.
    """

    images: UInt8[Tensor, "n 3 h w"]
    object_masks: Bool[Tensor, "n h w"]
    labels: Int[Tensor, "n 5"]
    seeds: Int[Tensor, " n"]
    angles_deg: Float[Tensor, "n 2"]
    framings: Int[Tensor, " n"]
    has_object: Bool[Tensor, " n"]

    def select(self, rows: Int[Tensor, " b"]) -> "ToyData":
        """These rows alone."""
        return ToyData(*(getattr(self, field.name)[rows] for field in fields(self)))

    def unit_images(self, rows: Tensor) -> Float[Tensor, "b 3 h w"]:
        """Images of these rows in [0, 1]."""
        return self.images[rows].float() / 255


def load_toy_data(folder: Path, *, is_held_out: bool, only_objects: bool = False) -> ToyData:
    """Read what ``write_scene_shards`` wrote: the scenes that are held out, or all others.

    Args:
        folder: Holds the shards.
        is_held_out: Which scenes.
        only_objects: Leave out the scenes without an object, as a judge of objects needs it.

    Raises:
        ConfigError: If there are no shards, or no such scene in them.
    """
    names = ("images", "object_masks", "attributes", "seeds", "angles_deg", "framings", "has_object")
    images, masks, labels, seeds, angles_deg, framings, has_object = load_shards(folder, names, is_held_out=is_held_out)
    images = images.permute(0, 3, 1, 2).contiguous()
    shown_from = angles_deg.float(), framings.long()
    data = ToyData(images, masks.bool(), labels.long(), seeds.long(), *shown_from, has_object.bool())
    return data.select(has_object.nonzero()[:, 0]) if only_objects else data


def evenly_spread(count: int, total: int) -> Int[Tensor, " b"]:
    """``count`` rows of ``total``, first and last among them; all of them if there are no more."""
    return torch.linspace(0, total - 1, min(count, total), dtype=torch.float64).long()


def write_scene_shards(worker: Worker, folder: Path, num_shards: int, scenes_a_shard: int = SCENES_A_SHARD) -> None:
    """Write shards of images uint8 (n 64 64 3), object_masks (n 64 64), attributes (n 5), seeds (n), views (n ...)."""
    write_shards(worker, folder, num_shards, _scene_views, range(scenes_a_shard))


def _scene_views(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([seed, CHOICE_STREAM])
    attributes, has_object = draw_attributes(rng), bool(rng.uniform() >= EMPTY_SHARE)
    scene = build_scene(attributes, seed, has_object=has_object)
    views = [sample_view(rng, is_wide=bool(rng.uniform() < WIDE_SHARE)) for _ in range(CAMERAS_A_SCENE)]
    cameras = to_cameras([view.camera for view in views], SIZE, SIZE)
    images, masks = render_with_masks(scene, cameras)
    return {
        "images": images,
        "object_masks": masks,
        **labels_of_views(attributes, seed, views),
        "has_object": np.full(CAMERAS_A_SCENE, has_object),
    }


def labels_of_views(
    attributes: Attributes, seed: int, views: Sequence[View], *, turn_deg: float = 0.0
) -> dict[str, np.ndarray]:
    """Rows of a shard that say what views show: attributes, the scene's seed, angles and framings.

    ``turn_deg`` is that of ``build_scene``.
    """
    yaw_deg = object_yaw_deg(seed) + turn_deg
    return {
        "attributes": np.tile(attributes.labels(), (len(views), 1)).astype(np.int64),
        "seeds": np.full(len(views), seed),
        "angles_deg": np.array([(view.azimuth_deg - yaw_deg, view.elevation_deg) for view in views], np.float32),
        "framings": np.array([FRAMINGS.index(framing_of(view.share, view.offset)) for view in views]),
    }


def cameras_of_renders(viewmats: Float[Tensor, "n 4 4"], Ks: Float[Tensor, "n 3 3"]) -> Cameras:
    """The cameras of renders of ``SIZE`` pixels, without names."""
    sides = torch.full((len(viewmats),), SIZE)
    return Cameras(viewmats, Ks, sides, sides, [""] * len(viewmats))


def draw_attributes(rng: np.random.Generator) -> Attributes:
    """Random attributes, the words of ``FREQUENCIES`` more often than others."""
    drawn = []
    for words in ATTRIBUTES.values():
        weights = np.array([FREQUENCIES.get(word, 1.0) for word in words])
        drawn.append(words[rng.choice(len(words), p=weights / weights.sum())])
    return Attributes(*drawn)


def render_with_masks(
    scene: ToyScene, cameras: Cameras
) -> tuple[UInt8[np.ndarray, "c h w 3"], Bool[np.ndarray, "c h w"]]:
    """Images of a scene, and the pixels where its object is visible; cameras of one size."""
    images, shares = render_with_shares(scene, cameras)
    return images, shares > 127


@torch.no_grad()
def render_with_shares(
    scene: ToyScene, cameras: Cameras
) -> tuple[UInt8[np.ndarray, "c h w 3"], UInt8[np.ndarray, "c h w"]]:
    """Images of a scene, and how much of each pixel its object makes up, 255: all; cameras of one size."""
    gaussians = to_gaussians(scene)
    is_object = torch.from_numpy(scene.parts == PART_OBJECT)
    colors = torch.cat([rgbs_from_sh0(gaussians.sh0[:, 0]), is_object[:, None].float()], dim=1)
    blended = render(gaussians, cameras, torch.zeros(4), colors)[0]
    pixels = (blended.clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy()
    return pixels[..., :3], pixels[..., 3]
