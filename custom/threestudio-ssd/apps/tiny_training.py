"""What the training scripts of the small embedded judges share: the toy data, a resumable loop, the README."""

import hashlib
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from ..errors import ConfigError
from ..toyworld.captions import random_caption
from ..toyworld.vocabulary import Attributes

HELD_OUT_EVERY = 20
"""Scenes whose seed is divisible by this are never trained on."""


@dataclass(frozen=True)
class ToyData:
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

    def __len__(self) -> int:
        return len(self.images)

    def select(self, index: Tensor) -> "ToyData":
        """Some of the rows, by index or mask."""
        return ToyData(self.images[index], self.object_masks[index], self.labels[index], self.seeds[index])

    def split(self) -> tuple["ToyData", "ToyData"]:
        """Training and held-out rows; no scene is in both."""
        is_held_out = self.seeds % HELD_OUT_EVERY == 0
        return self.select(~is_held_out), self.select(is_held_out)

    def captions(self, rows: Tensor, seed: int) -> list[str]:
        """A random caption of each of these rows."""
        rng = np.random.default_rng(seed)
        return [random_caption(Attributes.from_labels(labels), rng) for labels in self.labels[rows].tolist()]


def load_toy_data(folder: Path) -> ToyData:
    """Read the shards that the data step (``make_toy_data``) wrote.

    Args:
        folder: Holds ``*.npz`` with ``images object_masks attributes seeds``.

    Raises:
        ConfigError: If there are no such files.
    """
    paths = sorted(Path(folder).glob("*.npz"))
    if not paths:
        raise ConfigError(
            what=f"no .npz shards in {folder}", expected="the folder that make_toy_data wrote",
            fix="run that step first, or name its folder",
        )  # fmt: skip
    shards = [np.load(path) for path in paths]
    images, masks, labels, seeds = (
        torch.from_numpy(np.concatenate([shard[key] for shard in shards]))
        for key in ("images", "object_masks", "attributes", "seeds")
    )
    return ToyData(images.permute(0, 3, 1, 2).contiguous(), masks.bool(), labels.long(), seeds.long())


@dataclass(frozen=True)
class Recipe:
    """How long and how fast a network is trained: AdamW, warm-up then cosine, EMA of the weights.

    The cosine reaches zero at ``horizon`` (0: at the last step); with a nearer end, the last ``cooldown_steps`` lead
    linearly to zero from where the cosine then is.
    """

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.02
    warmup_steps: int = 100
    ema_decay: float = 0.995
    clip_norm: float = 1.0
    seed: int = 0
    horizon: int = 0
    cooldown_steps: int = 0

    def describe(self) -> str:
        """The recipe in words, two lines of a README."""
        end = f", then linear to zero over {self.cooldown_steps}" if self.cooldown_steps else ""
        return (
            f"{self.steps} steps of {self.batch_size} pictures, AdamW {self.learning_rate:g} with a cosine over "
            f"{self.horizon or self.steps} steps{end},\nweight decay {self.weight_decay:g}, EMA {self.ema_decay:g}, "
            f"seed {self.seed}"
        )

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        warm = min(1.0, (step + 1) / self.warmup_steps)
        cooldown = min(1.0, (self.steps - step) / self.cooldown_steps) if self.cooldown_steps else 1.0
        place = min(step, self.steps - self.cooldown_steps) / (self.horizon or self.steps)
        return self.learning_rate * warm * cooldown * 0.5 * (1 + math.cos(math.pi * place))


def step_generator(recipe: Recipe, step: int) -> torch.Generator:
    """The random numbers of one step, the same whether or not the run was interrupted before it."""
    return torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)


def train(
    network: nn.Module,
    loss: Callable[[nn.Module, torch.Generator], Float[Tensor, ""]],
    recipe: Recipe,
    checkpoint: Path,
    *,
    info: Callable[[str], None],
    save_every: int = 50,
) -> float:
    """Train in place and leave the averaged weights in the network; picks up from the checkpoint if there is one.

    Args:
        network: What to train.
        loss: Draws a batch of ``recipe.batch_size`` with the generator and returns its loss.
        recipe: Steps and rates.
        checkpoint: State of the unfinished run; belongs to one recipe.
        info: Takes the progress lines.
        save_every: Steps between checkpoints.

    Returns:
        Seconds of processor time of the training, interruptions not counted.
    """
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay
    )
    average = {name: value.clone() for name, value in network.state_dict().items()}
    start, spent = 0, 0.0
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        if state["recipe"] == asdict(recipe):
            network.load_state_dict(state["network"])
            optimizer.load_state_dict(state["optimizer"])
            average, start, spent = state["average"], state["step"], state["seconds"]
    network.train()
    began, recent = time.process_time() - spent, []
    for step in range(start, recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step)
        value = loss(network, step_generator(recipe, step))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
        optimizer.step()
        _blend(average, network.state_dict(), min(recipe.ema_decay, (1 + step) / (10 + step)))
        recent.append(value.item())
        if (step + 1) % save_every == 0 or step + 1 == recipe.steps:
            spent = time.process_time() - began
            info(f"step {step + 1}/{recipe.steps} loss {sum(recent) / len(recent):.4f} {spent:.0f} s")
            recent.clear()
            _save(checkpoint, {
                "recipe": asdict(recipe), "network": network.state_dict(), "optimizer": optimizer.state_dict(),
                "average": average, "step": step + 1, "seconds": spent,
            })  # fmt: skip
    network.load_state_dict(average)
    network.eval()
    return spent


def _blend(average: dict[str, Tensor], current: dict[str, Tensor], decay: float) -> None:
    for name, value in current.items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)
        else:
            average[name].copy_(value)


def _save(path: Path, state: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def sha256(path: Path) -> str:
    """Checksum of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write by a temporary name, so that a reader never meets half a file."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def weights_table(folder: Path) -> str:
    """Markdown table of a folder's weight files with sizes and checksums."""
    rows = [
        f"| `{path.name}` | {path.stat().st_size / 1e6:.2f} MB | `{sha256(path)}` |"
        for path in sorted(folder.glob("*.safetensors"))
    ]
    return "\n".join(["| file | size | sha256 |", "|---|---|---|", *rows])
