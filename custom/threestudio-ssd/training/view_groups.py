"""Several views of each of many toy scenes: what the view adapter learns from."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from transformers import CLIPTokenizer

from ..cameras import Cameras
from ..cameras.rays import ObjectFrame, ObjectViews
from ..diffusion.view_adapter import ViewGeometry
from ..toyworld import build_scene, sample_view
from ..toyworld.splat import to_cameras
from ..toyworld.tokenizer import token_ids
from ..toyworld.views import OBJECT_CENTER
from .data import Rows, load_shards, write_shards
from .loop import Worker, numpy_generator
from .scenes import SIZE, cameras_of_renders, draw_attributes, labels_of_views, render_with_masks
from .unet import EMPTY_CAPTIONS, Sample, caption_of, draw_latents

SCENES_A_SHARD, VIEWS_A_SCENE = 500, 16
CHOICE_STREAM = 19
"""Which random stream of a scene's seed draws its attributes and cameras; not that of ``scenes``."""
WIDE_SHARE = 0.25
"""Share of the scenes whose cameras ``sample_view`` draws wide."""
CENTER_JITTER, UNIT_JITTER = 0.12, 0.1
"""The frame of a group is about the object's middle and the cameras' distance, give or take so much (world units, and
a share): nobody knows either exactly."""


@dataclass(frozen=True)
class ViewGroups(Rows):
    """Scenes with ``VIEWS_A_SCENE`` renders each; row k of the renders belongs to scene k // VIEWS_A_SCENE.

    Attributes:
        images: Renders, 0-255.
        labels: Index of each attribute's word, in the order of ``toyworld.ATTRIBUTES``.
        seeds: The scene of each render.
        angles_deg: Azimuth of the camera from the object's front, and its elevation, as ``view_words`` takes them.
        framings: Index of the word in ``FRAMINGS`` that says where the object is in the image.
        viewmats: World to camera.
        Ks: Intrinsics, pixels.
    """

    images: UInt8[Tensor, "n 3 h w"]
    labels: Int[Tensor, "n 5"]
    seeds: Int[Tensor, " n"]
    angles_deg: Float[Tensor, "n 2"]
    framings: Int[Tensor, " n"]
    viewmats: Float[Tensor, "n 4 4"]
    Ks: Float[Tensor, "n 3 3"]

    def __len__(self) -> int:
        return len(self.seeds) // VIEWS_A_SCENE

    def cameras(self, rows: Int[Tensor, " v"]) -> Cameras:
        """Those of some renders."""
        return cameras_of_renders(self.viewmats[rows], self.Ks[rows])


def load_view_groups(folder: Path, *, is_held_out: bool) -> ViewGroups:
    """Read what ``write_view_group_shards`` wrote: the scenes that are held out, or all others.

    Args:
        folder: Holds the shards.
        is_held_out: Which scenes.

    Raises:
        ConfigError: If there are no shards, or no such scene in them.
    """
    names = ("images", "attributes", "seeds", "angles_deg", "framings", "viewmats", "Ks")
    images, labels, seeds, *rest = load_shards(folder, names, is_held_out=is_held_out)
    angles_deg, framings, viewmats, Ks = rest
    shown_from = angles_deg.float(), framings.long(), viewmats.float(), Ks.float()
    return ViewGroups(images.permute(0, 3, 1, 2).contiguous(), labels.long(), seeds.long(), *shown_from)


def write_view_group_shards(
    worker: Worker, folder: Path, num_shards: int, scenes_a_shard: int = SCENES_A_SHARD
) -> None:
    """Write shards of images uint8 (n 64 64 3), attributes (n 5), seeds (n), views (n ...)."""
    write_shards(worker, folder, num_shards, views_of_scene, range(scenes_a_shard))


def views_of_scene(seed: int) -> dict[str, np.ndarray]:
    """Rows of a shard: renders of a scene from ``VIEWS_A_SCENE`` sides."""
    rng = np.random.default_rng([seed, CHOICE_STREAM])
    attributes, is_wide = draw_attributes(rng), bool(rng.uniform() < WIDE_SHARE)
    views = [sample_view(rng, is_wide=is_wide) for _ in range(VIEWS_A_SCENE)]
    cameras = to_cameras([view.camera for view in views], SIZE, SIZE)
    images, _ = render_with_masks(build_scene(attributes, seed), cameras)
    return {
        "images": images,
        **labels_of_views(attributes, seed, views),
        "viewmats": cameras.viewmats.numpy(),
        "Ks": cameras.Ks.numpy(),
    }


class GroupSample(NamedTuple):
    """A batch of views that are drawn together.

    Attributes:
        sample: Of all views, those of a group one after the other.
        geometry: Where they look.
    """

    sample: Sample
    geometry: ViewGeometry


class GroupBatches:
    """Latents of several views of each scene, with captions and rays.

    Args:
        groups: The scenes.
        posteriors: Means and standard deviations of the latents of their renders, unscaled.
        scale: The autoencoder's scaling factor.
        tokenizer: Of the captions.
    """

    def __init__(
        self, groups: ViewGroups, posteriors: tuple[Tensor, Tensor], scale: float, tokenizer: CLIPTokenizer
    ) -> None:
        self.groups, self.posteriors, self.scale, self.tokenizer = groups, posteriors, scale, tokenizer

    def batch(self, count: int, size: int, generator: torch.Generator) -> GroupSample:
        """``count`` scenes with ``size`` views each; those of a scene have one caption, but for where they are from.

        Each group has a frame of its own, turned at random: where an object looks is for the captions to say.
        """
        rng = numpy_generator(generator)
        rows, captions, seen = [], [], []
        for scene in self.groups.draw(count, generator).tolist():
            chosen = scene * VIEWS_A_SCENE + torch.from_numpy(rng.permutation(VIEWS_A_SCENE)[:size])
            words, is_said = int(rng.integers(2**62)), rng.uniform() >= EMPTY_CAPTIONS
            captions += [
                caption_of(self.groups, row, True, np.random.default_rng(words)) if is_said else ""
                for row in chosen.tolist()
            ]
            seen.append(randomly_framed(self.groups.cameras(chosen), rng))
            rows.append(chosen)
        latents = draw_latents(self.posteriors, torch.cat(rows), generator) * self.scale
        return GroupSample(Sample(latents, token_ids(self.tokenizer, captions)), ViewGeometry(seen))


def randomly_framed(cameras: Cameras, rng: np.random.Generator) -> ObjectViews:
    """A frame about the toy world's object, turned about the upright axis at random."""
    turn = rng.uniform(0, 2 * np.pi)
    axes = [[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    center = torch.tensor(OBJECT_CENTER) + torch.from_numpy(rng.uniform(-CENTER_JITTER, CENTER_JITTER, 3)).float()
    distance = float((cameras.centers - center).norm(dim=1).mean())
    unit = distance * float(rng.uniform(1 - UNIT_JITTER, 1 + UNIT_JITTER))
    return ObjectViews(cameras, ObjectFrame(torch.tensor(axes, dtype=torch.float32), center, unit))
