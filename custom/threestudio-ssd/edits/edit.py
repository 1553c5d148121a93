"""The step of every edit: what grows grows, the objective says a loss, what may move moves.

Plain torch, no Lightning: systems, benchmarks and the Python call all go through ``Edit.step``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from operator import methodcaller
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.optim import Optimizer

import threestudio
from threestudio.utils.misc import cleanup

from ..errors import ConfigError
from ..host import allocation_failure, scheduled
from ..ranks import ALONE, Rank

Facts = dict[str, float | Tensor]
"""What a step says of itself by name, for logs: timestep, size of the score, loss, ... Tensors of one value are read by
whoever shows them: a GPU that is asked at every step waits at every step."""

CHECK_EVERY = 50
"""Steps between looks at whether the parameters are still finite, and whether steps are still made."""

MOST_SKIPPED = 50
"""Steps in a row without a finite loss and gradient after which an edit goes no further."""


class Edit(nn.Module, ABC):
    """One edit under way, or several side by side of which each moves as it would alone.

    What is optimised is its parameters, and what else changes from step to step is in its ``state_dict`` as well; the
    optimisers are kept by whoever makes the steps.

    Args:
        num_steps: Length of the run; schedules refer to it.

    Attributes:
        skipped: (2) steps whose loss or gradient was not finite, counted where the loss is: all of them, and how many
            were the last in a row.
    """

    skipped: Tensor

    def __init__(self, num_steps: int) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.register_buffer("skipped", torch.zeros(2, dtype=torch.int64))
        self.rank = ALONE

    def join(self, rank: Rank) -> None:
        """Make the steps together with other processes; call it before ``prepare``.

        Raises:
            ConfigError: If the views of a step cannot be split among them.
        """
        refuse_others(rank)

    def prepare(self) -> None:
        """Compute what is known before the first step; call it once, after a checkpoint was loaded."""

    @abstractmethod
    def make_optimizers(self) -> list[Optimizer]:
        """Optimisers of the parameters as they are now; their rates are set before each step."""

    def before_step(self, step: int, optimizers: Sequence[Optimizer]) -> None:
        """Override for what happens to the parameters between steps; the optimisers follow."""

    @abstractmethod
    def loss(self, step: int) -> tuple[Tensor, Facts]:
        """The loss of a step, with gradient, and what to log of it."""

    def after_backward(self, is_good: Bool[Tensor, ""], loss_scale: float) -> None:
        """Override to read gradients.

        Args:
            is_good: Whether loss and gradients are finite, on their device.
            loss_scale: What the loss was multiplied with.
        """

    @abstractmethod
    def set_rates(self, optimizers: Sequence[Optimizer], step: int) -> None:
        """Give the optimisers the learning rates of a step."""

    def after_step(self, step: int) -> None:
        """Override to keep the parameters where they have to stay."""

    def shrink(self) -> str | None:
        """Override to do with less memory from now on; returns what was set, as a user would write it, or None."""
        return None

    def step(
        self,
        step: int,
        optimizers: Sequence[Optimizer],
        *,
        backward: Callable[[Tensor], Any] = Tensor.backward,
        apply: Callable[[Optimizer], Any] = methodcaller("step"),
        loss_scale: float = 1.0,
    ) -> Facts:
        """Make one step. One whose loss or gradient is not finite moves nothing and is counted in ``skipped``.

        Nothing is read from the device, so that a GPU has work queued ahead of it; see ``leaves_out``. Where memory
        runs out, the step is made again with what ``shrink`` sets.

        Args:
            step: Which one, 0 .. num_steps - 1.
            optimizers: Those of ``make_optimizers``.
            backward: Makes the gradients of a loss; a trainer with a gradient scaler has its own.
            apply: Lets an optimiser move its parameters; the same.
            loss_scale: What ``backward`` multiplies the loss with.

        Returns:
            What to log.
        """
        self.before_step(step, optimizers)
        loss, facts = self._loss_and_gradients(step, optimizers, backward)
        self.rank.average(_parameters_of(optimizers))
        is_good = self._count(loss, optimizers)
        self.after_backward(is_good, loss_scale)
        self.set_rates(optimizers, step)
        for optimizer in optimizers:
            if leaves_out(optimizer):
                optimizer.found_inf = (~is_good).float()  # pyright: ignore[reportAttributeAccessIssue]
            elif loss_scale == 1 and not is_good:  # a gradient scaler leaves it out itself, and lowers its scale
                optimizer.zero_grad(set_to_none=True)
            apply(optimizer)  # also where it moves nothing: a trainer counts it
            optimizer.zero_grad(set_to_none=True)
        self.after_step(step)
        self.rank.agree(_parameters_of(optimizers))
        return facts

    def _loss_and_gradients(
        self, step: int, optimizers: Sequence[Optimizer], backward: Callable[[Tensor], Any]
    ) -> tuple[Tensor, Facts]:
        """The loss and its gradients; once more, with less memory, where there is not enough."""
        try:
            loss, facts = self.loss(step)
            backward(loss)
            return loss, facts
        except (RuntimeError, MemoryError) as error:
            wanted = allocation_failure(error)
            smaller = self.shrink() if wanted is not None else None
            if smaller is None:
                raise
        threestudio.warn(f"Step {step} ran out of memory ({wanted}); it and all after it are made with {smaller}")
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        cleanup()
        loss, facts = self.loss(step)
        backward(loss)
        return loss, facts

    @torch.no_grad()
    def _count(self, loss: Tensor, optimizers: Sequence[Optimizer]) -> Bool[Tensor, ""]:
        """Whether loss and gradients are finite; if not, the step is counted."""
        gradients = [each.grad for each in _parameters_of(optimizers) if each.grad is not None]
        sums = [values.sum(dtype=torch.float32).to(loss.device) for values in (loss, *gradients)]
        is_good = torch.stack(sums).isfinite().all()  # a sum is not where a part of it is not
        all_of_them, in_a_row = (self.skipped.to(loss.device) + ~is_good).unbind()
        self.skipped = torch.stack([all_of_them, in_a_row * ~is_good])
        return is_good

    @property
    def is_stuck(self) -> bool:
        """Whether so many steps in a row were skipped, or all of a shorter run, that no more are made."""
        return int(self.skipped[1]) >= min(MOST_SKIPPED, self.num_steps)

    def make_steps(self) -> None:
        """Make all steps of the run, after ``prepare``."""
        optimizers = self.make_optimizers()
        for step in range(self.num_steps):
            self.step(step, optimizers)
            if (step + 1) % CHECK_EVERY == 0 and self.is_stuck:
                return

    def is_finite(self) -> bool:
        """Whether every parameter is finite, and so the result."""
        return all(bool(torch.isfinite(parameter).all()) for parameter in self.parameters())


def refuse_others(rank: Rank) -> None:
    """Refuse more than one process where the step of an edit cannot be split.

    Raises:
        ConfigError: If there are more.
    """
    if rank.count > 1:
        raise ConfigError(
            what=f"{rank.count} devices were asked for, and a step of this edit cannot be split among them",
            expected="one device", fix="leave out trainer.devices, or name one GPU",
        )  # fmt: skip


def leaves_out(optimizer: Optimizer) -> bool:
    """Whether an optimiser moves nothing where its ``found_inf`` is 1, as torch's fused ones do.

    Others have to step without gradients, and for that somebody reads whether the step was good.
    """
    return hasattr(optimizer, "found_inf") or bool(optimizer.defaults.get("fused"))


def _parameters_of(optimizers: Sequence[Optimizer]) -> list[Tensor]:
    return [each for optimizer in optimizers for group in optimizer.param_groups for each in group["params"]]


def value_at(value: Any, step: int, interpolation: str = "linear") -> float:
    """The value of a number or schedule at a step; schedules are written as in ``threestudio.utils.schedule``."""
    return scheduled(value, step, interpolation)


Moment = int | float
"""A moment or length of a run: a whole number counts steps, one with a decimal point is a share of the run."""
A_MOMENT = "a step from 0 on, or a share of the run from 0.0 to 1.0"
AN_INTERVAL = "steps from 1 on, or a share of the run above 0.0, at most 1.0"


def is_moment(value: Moment) -> bool:
    """Whether a moment is ``A_MOMENT``."""
    return 0 <= value <= 1 if isinstance(value, float) else value >= 0


def is_interval(value: Moment) -> bool:
    """Whether a length is ``AN_INTERVAL``."""
    return is_moment(value) and value > 0


def in_steps(moment: Moment, num_steps: int) -> float:
    """A moment or length of a run of so many steps, in steps, not rounded."""
    return moment * num_steps if isinstance(moment, float) else moment


def due_steps(start: Moment, stop: Moment, every: Moment, num_steps: int) -> list[int]:
    """Steps of what happens again and again, at the multiples of ``every`` from start to stop, but never at 0.

    Shares give the same number in a run of any length, unless it is so short that two fall on one step.

    Args:
        start: Nothing before it.
        stop: Nothing after it, nor after the run.
        every: Between two, above 0.
        num_steps: Length of the run.
    """
    first, last, apart = (in_steps(moment, num_steps) for moment in (start, stop, every))
    slack = 1e-6 * num_steps  # so that 3 * 0.1 is 0.3
    counts = range(1, int((min(last, num_steps) + slack) / apart) + 1)
    return sorted({round(count * apart) for count in counts if count * apart >= first - slack} - {0})


def values_of(value: Any) -> list[float]:
    """The values that a number or schedule goes through, from first to last."""
    if not isinstance(value, Sequence):
        return [value]
    first = 0 if len(value) == 3 else 1
    return [value[first], *value[first + 1 :: 2]]
