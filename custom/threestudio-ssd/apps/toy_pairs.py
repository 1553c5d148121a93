"""Pairs of toy scenes that differ in one attribute, seen from one camera, with the instruction that leads across."""

from pathlib import Path

import numpy as np
import torch

from ..rendering import render_each
from ..toyworld import build_scene, sample_attributes, sample_camera
from ..toyworld.instructions import random_change
from ..toyworld.splat import to_cameras, to_gaussians
from .training import Worker, write_shards

SIZE = 64
FIRST_SEED = 20_000_000
"""Scenes of pairs have seeds of their own."""
CHOICE_STREAM = 11


def write_pair_shards(worker: Worker, folder: Path, num_shards: int, pairs_a_shard: int) -> None:
    """Write shards of sources and targets uint8 (n 64 64 3), their attributes (n 5) each, seeds (n)."""
    write_shards(worker, folder, num_shards, _pair, range(FIRST_SEED, FIRST_SEED + pairs_a_shard))


def _pair(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([seed, CHOICE_STREAM])
    source = sample_attributes(rng)
    target, _ = random_change(source, rng)
    camera = to_cameras([sample_camera(rng)], SIZE, SIZE)
    images = [
        next(render_each(to_gaussians(build_scene(each, seed)), camera, torch.zeros(3))) for each in (source, target)
    ]
    sources, targets = ((image * 255 + 0.5).to(torch.uint8).numpy() for image in images)
    pair = {
        "sources": sources, "targets": targets, "source_attributes": np.array(source.labels()),
        "target_attributes": np.array(target.labels()), "seeds": np.array(seed),
    }  # fmt: skip
    return {name: value[None] for name, value in pair.items()}
