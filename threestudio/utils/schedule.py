"""Values that change while a run goes on: a number, or a list that says from when to when.

The written forms are those of upstream threestudio::

    2.0                                         a constant
    [v0, v1, step1]                             from v0 at step 0 to v1 at step1
    [step0, v0, v1, step1]                      from v0 at step0 to v1 at step1
    [step0, v0, v1, step1, v2, step2, ...]      piecewise

Before the first step the first value holds, after the last one the last. A segment whose end is written as a whole
number counts optimisation steps; with a decimal point (``5.0``) it counts epochs.
"""

import math
from collections.abc import Sequence
from numbers import Real
from typing import TypeGuard


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is an int or float, and not a bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def schedule_problem(value: object) -> str | None:
    """What is wrong with a written schedule, or None if it can be used."""
    if is_number(value):
        return None
    if isinstance(value, str) or not isinstance(value, Sequence):
        return f"{value!r} is neither a number nor a list"
    points = list(value)
    if not all(is_number(point) and math.isfinite(point) for point in points):
        return f"{points} holds something that is not a finite number"
    if len(points) != 3 and (len(points) < 4 or len(points) % 2):
        return f"{points} has {len(points)} entries"
    steps = _steps(points)
    if any(later <= earlier for earlier, later in zip(steps, steps[1:], strict=False)):
        return f"{points} has steps that do not increase: {steps}"
    return None


EXPECTED = "a number, [value, value, step], or [step, value, value, step, value, step, ...] with steps that increase"


def value_at(value: object, epoch: int, global_step: int, interpolation: str = "linear") -> float:
    """The value of a schedule at a moment of the run.

    Args:
        value: A number or one of the lists above.
        epoch: Current epoch, >= 0.
        global_step: Current optimisation step, >= 0.
        interpolation: ``linear``, or ``exp`` for a constant ratio per step (both ends must be > 0).

    Raises:
        ValueError: If the schedule is not written in one of the forms above.
    """
    points = _points(value)
    if not isinstance(points, list):
        return points
    start_step, start, end, end_step = _segment(points, epoch, global_step)
    now = _now(end_step, epoch, global_step)
    fraction = min(max((now - start_step) / (end_step - start_step), 0.0), 1.0)
    if interpolation == "linear":
        return start + (end - start) * fraction
    if interpolation == "exp":
        if start <= 0 or end <= 0:
            raise ValueError(f"exponential interpolation needs values > 0, got {start} and {end}")
        return math.exp(math.log(start) + (math.log(end) - math.log(start)) * fraction)
    raise ValueError(f"interpolation is {interpolation!r}; expected linear or exp")


def largest_value(value: object) -> float:
    """The largest value a schedule takes at any time."""
    points = _points(value)
    return points if not isinstance(points, list) else max(points[1], *points[2::2])


def _points(value: object) -> float | list:
    """A number as it is; a schedule as ``[step, value, value, step, ...]``.

    Raises:
        ValueError: If it is neither.
    """
    problem = schedule_problem(value)
    if problem is not None:
        raise ValueError(f"{problem}; expected {EXPECTED}")
    if is_number(value):
        return value
    assert isinstance(value, Sequence)
    return [0, *value] if len(value) == 3 else list(value)


def _now(end_step: float, epoch: int, global_step: int) -> int:
    return epoch if isinstance(end_step, float) else global_step


def _steps(points: list) -> list:
    full = [0, *points] if len(points) == 3 else points
    return [full[0], *full[3::2]]


def _segment(points: list, epoch: int, global_step: int) -> tuple:
    """Start step, start value, end value, end step of the segment that holds now."""
    start_step, start = points[0], points[1]
    for end, end_step in zip(points[2::2], points[3::2], strict=True):
        if _now(end_step, epoch, global_step) < end_step:
            return start_step, start, end, end_step
        last = (start_step, start, end, end_step)
        start_step, start = end_step, end
    return last
