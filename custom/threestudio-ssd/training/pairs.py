"""Pairs of toy scenes that differ in one attribute, seen from one camera: what the InstructPix2Pix learns from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from ..rendering import render_each
from ..toyworld import build_scene, sample_attributes, sample_view
from ..toyworld.instructions import random_change
from ..toyworld.splat import to_cameras, to_gaussians
from .data import Rows, load_shards, write_shards
from .loop import Worker

SIZE = 64
WIDE_SHARE = 0.5
"""Share of the pairs whose camera ``sample_view`` draws wide: an edit's views show the object at any place and size."""
FIRST_SEED = 20_000_000
"""Scenes of pairs have seeds of their own."""
CHOICE_STREAM = 11


@dataclass(frozen=True)
class Pairs(Rows):
    """Images before and after an edit, 0-255, and what they show.

    Attributes:
        sources: Before.
        targets: After.
        source_labels: Index of each attribute's word, in the order of ``toyworld.ATTRIBUTES``.
        target_labels: The same after the edit; one differs.
        seeds: The scene of each pair.
    """

    sources: UInt8[Tensor, "n 3 h w"]
    targets: UInt8[Tensor, "n 3 h w"]
    source_labels: Int[Tensor, "n 5"]
    target_labels: Int[Tensor, "n 5"]
    seeds: Int[Tensor, " n"]


def load_pairs(folder: Path, *, is_held_out: bool) -> Pairs:
    """Read what ``write_pair_shards`` wrote: the scenes that are held out, or all others.

    Raises:
        ConfigError: If there are no shards, or no such scene in them.
    """
    names = ("sources", "targets", "source_attributes", "target_attributes", "seeds")
    sources, targets, *labels_and_seeds = load_shards(folder, names, is_held_out=is_held_out)
    images = (each.permute(0, 3, 1, 2).contiguous() for each in (sources, targets))
    return Pairs(*images, *(each.long() for each in labels_and_seeds))


def write_pair_shards(worker: Worker, folder: Path, num_shards: int, pairs_a_shard: int) -> None:
    """Write shards of sources and targets uint8 (n 64 64 3), their attributes (n 5) each, seeds (n)."""
    write_shards(worker, folder, num_shards, _pair, range(FIRST_SEED, FIRST_SEED + pairs_a_shard))


def _pair(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([seed, CHOICE_STREAM])
    source = sample_attributes(rng)
    target, _ = random_change(source, rng)
    camera = to_cameras([sample_view(rng, is_wide=bool(rng.uniform() < WIDE_SHARE)).camera], SIZE, SIZE)
    images = [
        next(render_each(to_gaussians(build_scene(each, seed)), camera, torch.zeros(3))) for each in (source, target)
    ]
    sources, targets = ((image * 255 + 0.5).to(torch.uint8).numpy() for image in images)
    pair = {
        "sources": sources, "targets": targets, "source_attributes": np.array(source.labels()),
        "target_attributes": np.array(target.labels()), "seeds": np.array(seed),
    }  # fmt: skip
    return {name: value[None] for name, value in pair.items()}
