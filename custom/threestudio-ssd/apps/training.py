"""What every training script of the embedded models shares: two processes, averaged gradients, checkpoints, EMA.

On a CPU two single-threaded processes that average their gradients beat one process with two threads.
"""

import copy
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn


@dataclass(frozen=True)
class Worker:
    """One of ``count`` training processes."""

    rank: int
    count: int

    @property
    def is_first(self) -> bool:
        return self.rank == 0


def run_workers(step: Callable[[int, int, Path, dict], None], count: int, cfg: dict) -> None:
    """Run a step in ``count`` new processes.

    Args:
        step: Takes its rank, the count, the file at which the processes meet (see ``start_worker``), and the keys.
        count: How many processes.
        cfg: The keys.
    """
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(step, (count, Path(folder) / "meet", cfg), count)


def start_worker(rank: int, count: int, meeting: Path) -> Worker:
    """Join the other processes at the file ``meeting``; one thread each, denormals flushed."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if count > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=rank, world_size=count, timeout=timedelta(hours=4)
        )
    return Worker(rank, count)


HELD_PART = 0.3


def cosine_rate(step: int, num_steps: int, warm_up: int) -> float:
    """Learning-rate factor: linear warm-up, full rate for the first 30 % of the steps, then half a cosine to zero."""
    if step < warm_up:
        return (step + 1) / warm_up
    held = max(warm_up, int(HELD_PART * num_steps))
    return 0.5 * (1 + math.cos(math.pi * max(0, step - held) / max(1, num_steps - held)))


class Trainer:
    """AdamW with averaged gradients, clipping, exponential moving average and a resumable checkpoint.

    Args:
        modules: What is trained; the EMA copies are in ``ema``.
        worker: This process.
        learning_rate: Peak rate.
        num_steps: Length of the cosine.
        ema_decay: Decay of the moving average.
        checkpoint: File that the first process writes every ``save_seconds``.
    """

    def __init__(
        self,
        modules: dict[str, nn.Module],
        worker: Worker,
        *,
        learning_rate: float,
        num_steps: int,
        ema_decay: float,
        checkpoint: Path,
        warm_up: int = 200,
        weight_decay: float = 1e-2,
        save_seconds: float = 180.0,
    ) -> None:
        self.modules, self.worker, self.num_steps, self.warm_up = modules, worker, num_steps, warm_up
        self.learning_rate, self.ema_decay, self.checkpoint = learning_rate, ema_decay, checkpoint
        self.parameters = [p for module in modules.values() for p in module.parameters()]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=learning_rate, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True
        )
        self.ema = {name: copy.deepcopy(module).requires_grad_(False) for name, module in modules.items()}
        self.step, self.seconds = 0, 0.0
        self.save_seconds, self._saved = save_seconds, time.monotonic()
        if checkpoint.exists():
            self._load()
        self._synchronise()

    def steps(self) -> Iterator[int]:
        """The remaining steps; saves now and then and at the end."""
        while self.step < self.num_steps:
            begin = time.monotonic()
            yield self.step
            self.step += 1
            self.seconds += time.monotonic() - begin
            if time.monotonic() - self._saved > self.save_seconds:
                self.save()
        self.save()

    def update(self, loss: Tensor) -> None:
        """One optimiser step on ``loss``, averaged over the processes."""
        self.optimizer.zero_grad(set_to_none=False)
        loss.backward()
        if self.worker.count > 1:
            flat = torch.cat([p.grad.reshape(-1) for p in self.parameters])
            dist.all_reduce(flat)
            flat /= self.worker.count
            for p, grad in zip(self.parameters, flat.split([p.numel() for p in self.parameters]), strict=True):
                p.grad.copy_(grad.view_as(p))
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        rate = self.learning_rate * cosine_rate(self.step, self.num_steps, self.warm_up)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        decay = min(self.ema_decay, (1 + self.step) / (10 + self.step))
        for name, module in self.modules.items():
            averages = list(self.ema[name].parameters())
            torch._foreach_lerp_(averages, list(module.parameters()), 1 - decay)

    def save(self) -> None:
        """Write the checkpoint (first process only), by a temporary name."""
        self._saved = time.monotonic()
        if not self.worker.is_first:
            return
        state = {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "ema": {name: module.state_dict() for name, module in self.ema.items()},
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, self.checkpoint)

    def _load(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True)
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
            self.ema[name].load_state_dict(state["ema"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]

    def _synchronise(self) -> None:
        if self.worker.count > 1:
            for tensor in [t for m in (*self.modules.values(), *self.ema.values()) for t in m.state_dict().values()]:
                dist.broadcast(tensor, 0)


def write_shards(
    worker: Worker, folder: Path, num_shards: int, make: Callable[[int], dict[str, np.ndarray]], seeds: range
) -> None:
    """Write ``shard_000.npz`` ...: the rows that ``make`` gives for each seed, by name, one below the other.

    Shards that are there already are kept. The processes share the work.

    Args:
        worker: This process.
        folder: Where they go.
        num_shards: How many.
        make: A seed's rows.
        seeds: Those of the first shard; the next ones follow on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(worker.rank, num_shards, worker.count):
        path = folder / f"shard_{shard:03d}.npz"
        if not path.exists():
            rows = [make(seed + shard * len(seeds)) for seed in seeds]
            temporary = folder / f".shard_{shard:03d}.tmp.npz"
            np.savez(temporary, **{name: np.concatenate([each[name] for each in rows]) for name in rows[0]})
            os.replace(temporary, path)


def load_shards(folder: Path, names: tuple[str, ...], held_out: bool) -> list[np.ndarray]:
    """Arrays of the toy data, joined over the shards; the last shard is held out.

    Raises:
        FileNotFoundError: If the folder has fewer than two shards.
    """
    files = sorted(Path(folder).glob("shard_*.npz"))
    if len(files) < 2:
        raise FileNotFoundError(f"{folder} holds {len(files)} shards of toy data, expected at least 2")
    files = files[-1:] if held_out else files[:-1]
    shards = [np.load(file) for file in files]
    return [np.concatenate([shard[name] for shard in shards]) for name in names]


def batch_rng(seed: int, step: int, rank: int) -> np.random.Generator:
    """The random numbers of one batch; a resumed run draws the same ones."""
    return np.random.default_rng([seed, step, rank])
