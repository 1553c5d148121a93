"""Pairs of toy scenes that differ in one attribute at most: what the InstructPix2Pix learns from."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ..cameras import Cameras
from ..toyworld import build_scene, sample_view
from ..toyworld.instructions import random_other
from ..toyworld.splat import to_cameras
from ..toyworld.vocabulary import Attributes
from ..toyworld.world import object_yaw_deg, sun_direction
from .data import Rows, load_shards, write_shards
from .loop import Worker
from .scenes import SIZE, cameras_of_renders, draw_attributes, labels_of_views, render_with_shares

VIEWS_A_PAIR = 3
CHANGES = {"object": 0.55, "color": 0.1, "pattern": 0.1, "ground": 0.1, "time": 0.1, "": 0.05}
"""What differs in which share of the pairs; most in an object, whose shape is hardest, and in a few nothing."""
TURNED_SHARE = 0.5
"""Share of the new objects that do not look where the old one did: what their captions say of the side counts."""
WIDE_SHARE = 0.5
"""Share of the cameras that ``sample_view`` draws wide: an edit's views show the object at any place and size."""
FIRST_SEED = 20_000_000
"""Scenes of pairs have seeds of their own."""
CHOICE_STREAM = 11


@dataclass(frozen=True)
class Pairs(Rows):
    """Images before and after an edit, 0-255, and what they show.

    Attributes:
        sources: Before.
        targets: After, from the same camera.
        shares: How much of each of their pixels the new object makes up, 255: all.
        source_labels: Index of each attribute's word, in the order of ``toyworld.ATTRIBUTES``.
        labels: The same after the edit; one differs at most.
        seeds: The scene of each pair; several pairs share one.
        angles_deg: Azimuth of the camera from the new object's front, and its elevation, as ``view_words`` takes them.
        framings: Index of the word in ``FRAMINGS`` that says where the object is in the image.
        is_turned: Whether the new object looks elsewhere than the old one did.
        viewmats: World to camera, in a world whose x axis is where the new object's front looks.
        Ks: Intrinsics, pixels.
    """

    sources: UInt8[Tensor, "n 3 h w"]
    targets: UInt8[Tensor, "n 3 h w"]
    shares: UInt8[Tensor, "n h w"]
    source_labels: Int[Tensor, "n 5"]
    labels: Int[Tensor, "n 5"]
    seeds: Int[Tensor, " n"]
    angles_deg: Float[Tensor, "n 2"]
    framings: Int[Tensor, " n"]
    is_turned: Bool[Tensor, " n"]
    viewmats: Float[Tensor, "n 4 4"]
    Ks: Float[Tensor, "n 3 3"]

    def cameras(self, rows: Int[Tensor, " v"]) -> Cameras:
        """Those of some pairs, in the frame of the new object."""
        return cameras_of_renders(self.viewmats[rows], self.Ks[rows])


def load_pairs(folder: Path, *, is_held_out: bool) -> Pairs:
    """Read what ``write_pair_shards`` wrote: the scenes that are held out, or all others.

    Raises:
        ConfigError: If there are no shards, or no such scene in them.
    """
    names = ("sources", "targets", "shares", "source_attributes", "attributes", "seeds", "angles_deg", "framings",
             "is_turned", "viewmats", "Ks")  # fmt: skip
    sources, targets, shares, *rest = load_shards(folder, names, is_held_out=is_held_out)
    source_labels, labels, seeds, angles_deg, framings, is_turned, viewmats, Ks = rest
    before, after = (each.permute(0, 3, 1, 2).contiguous() for each in (sources, targets))
    shown_from = angles_deg.float(), framings.long()
    cameras = viewmats.float(), Ks.float()
    return Pairs(
        before,
        after,
        shares,
        source_labels.long(),
        labels.long(),
        seeds.long(),
        *shown_from,
        is_turned.bool(),
        *cameras,
    )


def write_pair_shards(worker: Worker, folder: Path, num_shards: int, scenes_a_shard: int) -> None:
    """Write shards of sources and targets uint8 (n 64 64 3), shares uint8 (n 64 64), and what ``Pairs`` has besides."""
    write_shards(worker, folder, num_shards, pair_of_scenes, range(FIRST_SEED, FIRST_SEED + scenes_a_shard))


def draw_change(rng: np.random.Generator) -> tuple[Attributes, Attributes, bool, float]:
    """A scene before and after, whether the new object looks elsewhere, and by how many degrees it is turned then."""
    source = draw_attributes(rng)
    changed = str(rng.choice(list(CHANGES), p=list(CHANGES.values())))
    target = source._replace(**{changed: random_other(changed, getattr(source, changed), rng)}) if changed else source
    is_turned = changed == "object" and bool(rng.uniform() < TURNED_SHARE)
    return source, target, is_turned, float(rng.uniform(0, 360)) if is_turned else 0.0


@cache
def sun_of_pair(seed: int) -> np.ndarray:
    """Where the sun of a pair's scene stands, in the frame of the new object: a unit vector, (3)."""
    _, _, _, turn_deg = draw_change(np.random.default_rng([seed, CHOICE_STREAM]))
    return sun_direction(seed) @ _turn(object_yaw_deg(seed) + turn_deg)


def pair_of_scenes(seed: int) -> dict[str, np.ndarray]:
    """Rows of a shard: a scene from three sides, before and after."""
    rng = np.random.default_rng([seed, CHOICE_STREAM])
    source, target, is_turned, turn_deg = draw_change(rng)
    views = [sample_view(rng, is_wide=bool(rng.uniform() < WIDE_SHARE)) for _ in range(VIEWS_A_PAIR)]
    cameras = to_cameras([view.camera for view in views], SIZE, SIZE)
    targets, shares = render_with_shares(build_scene(target, seed, turn_deg=turn_deg), cameras)
    return {
        "sources": render_with_shares(build_scene(source, seed), cameras)[0],
        "targets": targets,
        "shares": shares,
        "source_attributes": np.tile(source.labels(), (VIEWS_A_PAIR, 1)).astype(np.int64),
        **labels_of_views(target, seed, views, turn_deg=turn_deg),
        "is_turned": np.full(VIEWS_A_PAIR, is_turned),
        "viewmats": _turned_back(cameras.viewmats.numpy(), object_yaw_deg(seed) + turn_deg),
        "Ks": cameras.Ks.numpy(),
    }


def _turned_back(viewmats: np.ndarray, yaw_deg: float) -> np.ndarray:
    """The same views of a world that is turned about its upright axis so that this azimuth becomes zero."""
    turn = np.eye(4)
    turn[:3, :3] = _turn(yaw_deg)
    return (viewmats @ turn).astype(np.float32)


def _turn(yaw_deg: float) -> np.ndarray:
    """The rotation, (3 3), from a frame whose x axis has this azimuth into the world."""
    cos, sin = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
