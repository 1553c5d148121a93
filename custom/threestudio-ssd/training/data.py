"""Shards of rendered training data, and the one rule of what is held out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ..errors import ConfigError
from ..files import whole_file
from .loop import Worker

HELD_OUT_EVERY = 20
"""No model is trained on a scene whose seed is divisible by this; figures are measured on those."""


class Rows:
    """Data that belongs row by row to scenes; every training batch is drawn here.

    Attributes:
        seeds: The scene of each row; several rows may share one.
    """

    seeds: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.seeds)

    def draw(self, size: int, generator: torch.Generator) -> Int[Tensor, " b"]:
        """Indices of random rows."""
        return torch.randint(len(self), (size,), generator=generator)


def write_shards(
    worker: Worker, folder: Path, num_shards: int, make: Callable[[int], dict[str, np.ndarray]], seeds: range
) -> None:
    """Write ``shard_000.npz`` ...: the rows that ``make`` gives for each seed, by name, one below the other.

    Shards that are there already are kept. The processes share the work.

    Args:
        worker: This process.
        folder: Where they go.
        num_shards: How many.
        make: A seed's rows; ``seeds`` is among their names.
        seeds: Those of the first shard; the next ones follow on.
    """
    for shard in range(worker.rank, num_shards, worker.count):
        path = folder / f"shard_{shard:03d}.npz"
        if not path.exists():
            rows = [make(seed + shard * len(seeds)) for seed in seeds]
            arrays: dict[str, Any] = {name: np.concatenate([each[name] for each in rows]) for name in rows[0]}
            with whole_file(path) as beside:
                np.savez(beside, **arrays)
            worker.info(f"{path.name} of {num_shards} is rendered")


def load_shards(folder: Path, names: tuple[str, ...], *, is_held_out: bool) -> list[Tensor]:
    """Arrays of the toy data, joined over the shards.

    Args:
        folder: Holds ``shard_*.npz`` with these names and ``seeds``.
        names: Of the arrays.
        is_held_out: Whether to read the scenes that are held out, or all others.

    Raises:
        ConfigError: If there are no such files, if one of them lacks an array, or if there is no such scene in them.
    """
    paths = sorted(Path(folder).glob("shard_*.npz"))
    if not paths:
        raise ConfigError(
            what=f"no .npz shards in {folder}", expected="the folder that the data step of make-tiny-models wrote",
            fix="run that step first, or name its folder",
        )  # fmt: skip
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for path in paths:
        with np.load(path) as shard:
            missing = [name for name in names if name not in shard]
            if missing:
                raise ConfigError(
                    what=f"{path} has no {missing[0]}", expected=f"a shard with {', '.join(names)}",
                    fix="take that folder away, so that the data step writes it anew, or name another one",
                )  # fmt: skip
            rows = (shard["seeds"] % HELD_OUT_EVERY == 0) == is_held_out
            for name in names:
                parts[name].append(shard[name][rows])
    arrays = [torch.from_numpy(np.concatenate(parts[name])) for name in names]
    if not len(arrays[0]):
        raise ConfigError(
            what=f"the shards in {folder} hold no scene {'that is held out' if is_held_out else 'to train on'}",
            expected=f"scenes whose seed is divisible by {HELD_OUT_EVERY}, and others",
            fix="render more scenes: raise the number of scenes or pairs a shard",
        )
    return arrays
