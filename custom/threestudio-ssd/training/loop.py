"""The one training loop of the embedded models: a recipe, an average of the weights, checkpoints, two processes.

On a CPU two single-threaded processes that average their gradients beat one process with two threads.
"""

import copy
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

import threestudio

from ..errors import ConfigError, InputError
from ..files import whole_file, write_text
from ..seeds import generator as seeded_generator

SAVE_SECONDS = 60.0
"""Time between two checkpoints."""
CLIP_NORM = 1.0
"""Largest norm of the gradient."""


@dataclass(frozen=True)
class Recipe:
    """How long and how fast a model is trained: AdamW with a warm-up, a cosine, and an average of the weights.

    The rate rises linearly over ``warm_up_steps``, stays for ``hold_share`` of the steps, then follows half a cosine
    that reaches zero at ``horizon``.

    Attributes:
        steps: Length of the training.
        batch_size: Samples a step and process.
        learning_rate: Peak rate.
        seed: Of the first weights and of every batch.
        weight_decay: Of AdamW.
        warm_up_steps: Length of the warm-up, at least 1.
        hold_share: Share of the steps, warm-up included, before the cosine begins; 0: the cosine begins at step 0.
        horizon: Step at which the cosine is zero; 0: the last one.
        ema_decay: Decay of the moving average of the weights; the first steps have a smaller one.
        start: Checksum of the model that the first weights come from; "": they are random.
    """

    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    weight_decay: float
    warm_up_steps: int
    ema_decay: float
    hold_share: float = 0.0
    horizon: int = 0
    start: str = ""

    def with_steps(self, steps: int) -> "Recipe":
        """The same with another length, unless that is 0."""
        return replace(self, steps=steps) if steps else self

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        warm_up = min(1.0, (step + 1) / self.warm_up_steps)
        hold = max(self.warm_up_steps, int(self.hold_share * self.steps)) if self.hold_share else 0
        place = max(0, step - hold) / max(1, (self.horizon or self.steps) - hold)
        return self.learning_rate * warm_up * 0.5 * (1 + math.cos(math.pi * place))

    def describe(self) -> str:
        """The recipe in words, two lines of a README."""
        hold = f", held for {100 * self.hold_share:.0f} %" if self.hold_share else ""
        return (
            f"{self.steps} steps of {self.batch_size} images, AdamW {self.learning_rate:g}{hold} with a cosine over "
            f"{self.horizon or self.steps} steps,\nweight decay {self.weight_decay:g}, EMA {self.ema_decay:g}, "
            f"seed {self.seed}"
        )


@dataclass(frozen=True)
class Worker:
    """One of ``count`` training processes; ``info`` takes its lines of progress."""

    rank: int = 0
    count: int = 1
    info: Callable[[str], None] = threestudio.info

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def wait_for_all(self) -> None:
        """Return when every process has come this far."""
        if self.count > 1:
            dist.barrier()

    def sum_over_all(self, tensor: Tensor) -> None:
        """Replace the values by their sum over the processes."""
        if self.count > 1:
            dist.all_reduce(tensor)


def run_workers(count: int, function: Callable[..., Any], *args: Any) -> None:
    """Call ``function(worker, *args)`` in ``count`` new single-threaded processes, and pass their lines on.

    Raises:
        InputError: If one of them raised it.
    """
    with tempfile.TemporaryDirectory() as folder:
        messages = mp.get_context("spawn").SimpleQueue()
        entry = (count, Path(folder) / "meet", messages, function, args)
        processes: Any = mp.spawn(_run_worker, entry, count, join=False)
        refusals, has_ended = [], False
        try:
            while not has_ended:
                has_ended = processes.join(timeout=0.5)
                _pass_on(messages, refusals)
        except mp.ProcessRaisedException:
            _pass_on(messages, refusals)
            if refusals:
                raise refusals[0] from None
            raise
        finally:  # whoever stops this process means them as well
            for process in processes.processes:
                process.terminate()


def _pass_on(messages: Any, refusals: list[InputError]) -> None:
    while not messages.empty():
        message = messages.get()
        if isinstance(message, InputError):
            refusals.append(message)
        else:
            threestudio.info(message)


def _run_worker(rank: int, count: int, meeting: Path, messages: Any, function: Callable[..., Any], args: tuple) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # a decaying average of weights is full of them, and they are slow
    if count > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=rank, world_size=count, timeout=timedelta(hours=4)
        )
    try:
        function(Worker(rank, count, messages.put), *args)
    except InputError as error:
        messages.put(error)
        raise


def numpy_generator(generator: torch.Generator) -> np.random.Generator:
    """Random numbers for NumPy that follow from torch's."""
    return np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))


class Training:
    """A training at one of its steps: weights, their average, the optimiser, the time it took.

    Attributes:
        modules: What is trained, by name.
        average: Moving averages of the modules, of their floating-point buffers too; in evaluation mode.
        step: How many steps are done.
        seconds: Processor time of them in this process, interruptions not counted.
    """

    def __init__(self, modules: Mapping[str, nn.Module], recipe: Recipe, checkpoint: Path, worker: Worker) -> None:
        self.modules, self.recipe, self.checkpoint, self.worker = dict(modules), recipe, checkpoint, worker
        self.parameters = [p for module in modules.values() for p in module.parameters()]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=recipe.learning_rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay, fused=True
        )
        self.average = {name: copy.deepcopy(module).requires_grad_(False) for name, module in modules.items()}
        self.step, self.seconds, self.lines = 0, 0.0, list[str]()
        if checkpoint.is_file():
            self._load()
        if worker.count > 1:
            for module in (*self.modules.values(), *self.average.values()):
                for tensor in module.state_dict().values():
                    dist.broadcast(tensor, 0)
        for name, module in self.modules.items():
            module.train()
            self.average[name].eval()

    def update(self, loss: Tensor) -> None:
        """One optimiser step on ``loss``, whose gradients are averaged over the processes."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.worker.count > 1:
            grads = [p.grad for p in self.parameters if p.grad is not None]
            flat = torch.cat([grad.reshape(-1) for grad in grads])
            self.worker.sum_over_all(flat)
            flat /= self.worker.count
            for grad, mean in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
                grad.copy_(mean.view_as(grad))
        nn.utils.clip_grad_norm_(self.parameters, CLIP_NORM)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.step)
        self.optimizer.step()
        decay = min(self.recipe.ema_decay, (1 + self.step) / (10 + self.step))
        for name, module in self.modules.items():
            _blend(self.average[name].state_dict(), module.state_dict(), decay)
        self.step += 1

    def report(self, line: str) -> None:
        """Pass a line on and add it to the log beside the checkpoint; the first process only."""
        self.lines.append(line)
        self.worker.info(line)
        write_text(self.checkpoint.with_suffix(".log"), "\n".join(self.lines) + "\n")

    def save(self) -> None:
        """Write the checkpoint."""
        state = {
            "recipe": asdict(self.recipe),
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "average": {name: module.state_dict() for name, module in self.average.items()},
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "lines": self.lines,
        }
        with whole_file(self.checkpoint) as beside:
            torch.save(state, beside)

    def _load(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True)
        begun, now = ({"start": "", **each, "steps": 0} for each in (state.get("recipe", {}), asdict(self.recipe)))
        different = ", ".join(f"{name}={now[name]}" for name in now if begun.get(name) != now[name])
        if different:
            raise ConfigError(
                what=f"{self.checkpoint} was begun with another recipe than {different}",
                expected="a checkpoint of the same recipe; only the number of steps may differ",
                fix="take that file away to begin anew, or name another folder for the work",
            )
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
            self.average[name].load_state_dict(state["average"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.lines = state["step"], state["seconds"], state["lines"]


def fit(
    modules: Mapping[str, nn.Module],
    loss: Callable[[int, torch.Generator], Tensor],
    recipe: Recipe,
    checkpoint: Path,
    worker: Worker,
    *,
    report_every: int,
    measure: Callable[[dict[str, nn.Module]], str] | None = None,
    save_seconds: float = SAVE_SECONDS,
) -> Training:
    """Train the modules in place; go on from the checkpoint if there is one.

    The first process writes the checkpoint now and then, and beside it a log of its lines.

    Args:
        modules: What is trained, by name.
        loss: Gives the loss of a step on a batch that it draws with the generator. What is drawn follows from the
            recipe's seed, the step and the process, so that a resumed training draws what an uninterrupted one would.
        recipe: Steps and rates.
        checkpoint: State of the unfinished training; belongs to one recipe, whose number of steps alone may change.
        worker: This process.
        report_every: Steps between lines of progress.
        measure: Adds to a line what the averaged modules, by name, are worth.
        save_seconds: Time between checkpoints.

    Returns:
        The finished training, with the averaged modules.

    Raises:
        ConfigError: If the checkpoint was begun with another recipe.
    """
    training = Training(modules, recipe, checkpoint, worker)
    first, losses = training.step, []
    spent, began = time.process_time() - training.seconds, time.monotonic()
    saved = began
    for step in range(first, recipe.steps):
        value = loss(step, seeded_generator(recipe.seed, step, f"training-{worker.rank}"))
        training.update(value)
        losses.append(value.item())
        training.seconds, is_last = time.process_time() - spent, training.step == recipe.steps
        if worker.is_first and (training.step % report_every == 0 or is_last):
            to_go = (time.monotonic() - began) / (training.step - first) * (recipe.steps - training.step)
            line = f"step {training.step}/{recipe.steps} loss {sum(losses) / len(losses):.4f} {training.seconds:.0f} s"
            line += "" if is_last else f", {to_go / 60:.0f} min to go"
            training.report(line + (f", {measure(training.average)}" if measure else ""))
            losses.clear()
        if worker.is_first and (is_last or time.monotonic() - saved > save_seconds):
            training.save()
            saved = time.monotonic()
    for module in modules.values():
        module.eval()
    return training


def load_average(checkpoint: Path, modules: Mapping[str, nn.Module]) -> tuple[Recipe, float]:
    """Load a checkpoint's averaged weights.

    Args:
        checkpoint: File that ``fit`` wrote.
        modules: Where they go, by the names they were trained under.

    Returns:
        The recipe, with the number of steps that were made, and the seconds they took.
    """
    state = torch.load(checkpoint, weights_only=True)
    for name, module in modules.items():
        module.load_state_dict(state["average"][name])
    recipe = {name: value for name, value in state["recipe"].items() if name in Recipe.__dataclass_fields__}
    return Recipe(**{**recipe, "steps": state["step"]}), state["seconds"]


@torch.no_grad()
def _blend(average: dict[str, Tensor], current: dict[str, Tensor], decay: float) -> None:
    is_blended = {name for name, value in current.items() if value.is_floating_point()}
    torch._foreach_lerp_([average[name] for name in is_blended], [current[name] for name in is_blended], 1 - decay)
    for name in current.keys() - is_blended:
        average[name].copy_(current[name])
