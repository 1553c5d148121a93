"""Which timestep belongs to which step of the optimisation: pure functions, fractions of T in (0, 1)."""

import math
from collections.abc import Callable, Sequence

import torch

from ..errors import ConfigError


def linear(progress: float, t_min: float, t_max: float) -> float:
    """Straight down from t_max to t_min: non-increasing, as in SSD and DreamCatalyst."""
    return t_max - (t_max - t_min) * progress


def square_root(progress: float, t_min: float, t_max: float) -> float:
    """t_min + (t_max - t_min)(1 - sqrt(i/I)) (HiFA, Zhu & Zhuang 2023, arXiv:2305.18766)."""
    return t_min + (t_max - t_min) * (1 - math.sqrt(progress))


def cosine(progress: float, t_min: float, t_max: float) -> float:
    """Half a cosine from t_max down to t_min: slow at both ends."""
    return t_min + (t_max - t_min) * 0.5 * (1 + math.cos(math.pi * progress))


def dream_time(progress: float, t_min: float, t_max: float) -> float:
    """The t above which the share ``progress`` of DreamTime's weight lies (Huang et al. 2023, arXiv:2306.12422).

    W(t) is a Gaussian of width 300 above 800, one on [500, 800], a Gaussian of width 100 below, in thousandths of T.
    """
    levels = torch.linspace(t_min, t_max, 2001, dtype=torch.float64)
    t = 1000 * levels
    weight = torch.where(t > 800, torch.exp(-((t - 800) ** 2) / (2 * 300**2)), torch.ones_like(t))
    weight = torch.where(t < 500, torch.exp(-((t - 500) ** 2) / (2 * 100**2)), weight)
    share_above = weight.flip(0).cumsum(0).flip(0) / weight.sum()
    return float(levels[(share_above - progress).abs().argmin()])


SCHEDULES: dict[str, Callable[[float, float, float], float]] = {
    "linear": linear,
    "square-root": square_root,
    "cosine": cosine,
    "dream-time": dream_time,
}
"""Deterministic, non-increasing schedules; "uniform" draws at random instead."""


def timestep_at(
    schedule: str,
    step: int,
    num_steps: int,
    *,
    num_timesteps: int,
    t_min_frac: float,
    t_max_frac: float,
    stride: int = 1,
    offset: int = 0,
    generator: torch.Generator | None = None,
) -> int:
    """The timestep of an optimisation step: i stride + offset, where the schedule gives i out of T / stride.

    Released codes read their timesteps off a sampler's list, which counts from 1: SSD's has 1, 2, ..., 1000, the list
    of PDS and DreamCatalyst 1, 3, ..., 999.

    Args:
        schedule: A key of ``SCHEDULES``, or "uniform".
        step: 0 .. num_steps - 1; the trainer's.
        num_steps: Length of the run.
        num_timesteps: T of the model.
        t_min_frac: Smallest t / T, in (0, t_max_frac).
        t_max_frac: Largest t / T, below 1.
        stride: Timesteps from one of the sampler's to the next, >= 1.
        offset: The sampler's first timestep, >= 0.
        generator: For "uniform".

    Returns:
        An integer in [t_min_frac T, t_max_frac T] + offset; with "linear", 0.02 to 0.98, no offset and 1,500 steps:
        980, ..., 20.

    Raises:
        ValueError: If the step is outside the schedule; it is never stretched silently.
    """
    if not 0 <= step < num_steps:
        raise ValueError(f"step {step} is outside the schedule of {num_steps} steps")
    count = num_timesteps // stride
    low, high = int(count * t_min_frac), int(count * t_max_frac)
    if schedule == "uniform":
        index = int(torch.randint(low, high + 1, (), generator=generator))
    else:
        index = int(SCHEDULES[schedule](step / num_steps, low / count, high / count) * count + 1e-6)
    return index * stride + offset


def nearest(timestep: int, trained: Sequence[int]) -> int:
    """The one of a few-step model's timesteps that is nearest, the smaller of two; any is as good if there are none."""
    return min(trained, key=lambda each: (abs(each - timestep), each)) if len(trained) else timestep


def check_trained(trained: Sequence[int], num_timesteps: int) -> None:
    """Raise ``ConfigError`` unless all of a few-step model's timesteps are among the model's."""
    beyond = [each for each in trained if not 0 <= each < num_timesteps]
    if beyond:
        what = f"only_timesteps holds {beyond[0]}"
        fix = "leave it out, or name the timesteps that the model was distilled at"
        raise ConfigError(what=what, expected=f"timesteps from 0 to {num_timesteps - 1}", fix=fix)


def check_sampler(stride: int, offset: int, t_max_frac: float, num_timesteps: int) -> None:
    """Raise ``ConfigError`` unless a sampler of this stride and offset stays within the model's timesteps."""
    if not 1 <= stride <= num_timesteps:
        expected, fix = f"1 to {num_timesteps}", "set system.guidance.timestep_stride=1"
        raise ConfigError(what=f"system.guidance.timestep_stride is {stride}", expected=expected, fix=fix)
    largest = int(num_timesteps // stride * t_max_frac) * stride
    if not 0 <= offset < num_timesteps - largest:
        expected, fix = f"0 to {num_timesteps - largest - 1}", "set system.guidance.timestep_offset=0"
        what = f"system.guidance.timestep_offset is {offset}, and the schedule starts at {largest}"
        raise ConfigError(what=what, expected=expected, fix=fix)


def check_range(t_min_frac: float, t_max_frac: float, schedule: str) -> None:
    """Raise ``ConfigError`` unless 0 < t_min_frac < t_max_frac < 1 and the schedule exists."""
    if not 0 < t_min_frac < t_max_frac < 1:
        expected, fix = "0 < t_min_frac < t_max_frac < 1", "set t_min_frac=0.02 and t_max_frac=0.98, the paper's values"
        raise ConfigError(what=f"t_min_frac is {t_min_frac} and t_max_frac is {t_max_frac}", expected=expected, fix=fix)
    if schedule not in SCHEDULES and schedule != "uniform":
        what = f"schedule is {schedule!r}"
        raise ConfigError(what=what, expected=f"one of {', '.join([*SCHEDULES, 'uniform'])}", fix="set schedule=linear")
