"""The trials of a sweep: what each sets, and what it is called."""

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from threestudio.registry import did_you_mean
from threestudio.utils.config_compare import leaves, plain

from ...errors import ConfigError, check_least
from ...seeds import Stream, generator
from .keys import SweepKeys

EXAMPLE = "write sweep.grid.steps=[300,600], for example"


@dataclass(frozen=True)
class Trial:
    """One setting."""

    name: str
    """Its values with their labels."""
    values: dict[str, Any]
    """Label -> value, of everything that varies."""
    changes: tuple[str, ...]
    """``key=value`` texts for launch.py."""


def plan_trials(keys: Any) -> list[Trial]:
    """Every trial of a sweep, in order; two that set the same are one.

    Args:
        keys: Of ``SweepKeys``, checked against it.

    Raises:
        ConfigError: If nothing varies, or for the first key whose values are no values.
    """
    check_least("sweep", keys, SweepKeys(), {"count": 1, "max_trials": 0})
    parts = [_listed(keys), _zipped(keys), _gridded(keys.grid), _drawn(keys)]
    if not any(parts):
        expected = "values for at least one key: sweep.grid, sweep.zip, sweep.list or sweep.random"
        raise ConfigError(what="the sweep varies nothing", expected=expected, fix=EXAMPLE)
    combined = (_joined(each) for each in itertools.product(*(part or [{}] for part in parts)))
    return named_trials(combined, keys.labels)[: keys.max_trials or None]


def grid_trials(axes: Any, labels: Any) -> list[Trial]:
    """The trials of a grid alone, as ``SweepKeys.grid`` says it."""
    return named_trials(_gridded(axes), labels)


def named_trials(settings: Iterable[Mapping[str, Any]], labels: Mapping[str, str]) -> list[Trial]:
    """Settings as trials: key -> value each; the keys get the shortest labels that tell them apart."""
    settings = list(settings)
    names = _labels(dict.fromkeys(key for setting in settings for key in setting), labels)
    trials: dict[tuple[str, ...], Trial] = {}
    for setting in settings:
        changes = tuple(word for key, value in setting.items() for word in _assignments(key, value))
        values = {names[key]: value for key, value in setting.items()}
        name = " ".join(f"{label}={as_text(value)}" for label, value in values.items())
        trials.setdefault(changes, Trial(name.replace("/", "-"), values, changes))
    return list(trials.values())


def as_text(value: Any) -> str:
    """A value as a command line has it: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _labels(keys: Iterable[str], given: Mapping[str, str]) -> dict[str, str]:
    """What each key is called: as given, or its last parts, as many as it takes to be unlike all others."""
    keys = list(keys)
    names: dict[str, str] = {}
    for key in keys:
        parts = key.split(".")
        short = (".".join(parts[-count:]) for count in range(1, len(parts) + 1))
        others = [other for other in keys if other != key]
        names[key] = next((s for s in short if not any(f".{other}".endswith(f".{s}") for other in others)), key)
    return names | {key: str(label) for key, label in given.items() if key in names}


def _gridded(axes: Any) -> list[dict[str, Any]]:
    values = _values("grid", axes)
    return [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())] if values else []


def _zipped(keys: Any) -> list[dict[str, Any]]:
    values = _values("zip", keys.zip)
    lengths = {key: len(each) for key, each in values.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{key} has {count}" for key, count in lengths.items())
        expected, fix = "lists of one length, whose values go together", "give each key as many values, or use grid"
        raise ConfigError(what=f"sweep.zip: {told} values", expected=expected, fix=fix)
    return [dict(zip(values, each, strict=True)) for each in zip(*values.values(), strict=True)]


def _listed(keys: Any) -> list[dict[str, Any]]:
    return [leaves(setting) for setting in keys.list]


def _drawn(keys: Any) -> list[dict[str, Any]]:
    ranges = {}
    for path, bounds in leaves(keys.random).items():
        key, _, kind = path.rpartition(".")
        if kind not in DISTRIBUTIONS or not key:
            near = did_you_mean(kind, DISTRIBUTIONS)
            fix = f"did you mean {near}?" if near else "write sweep.random.steps.uniform=[300,600], for example"
            expected = f"a key with one of: {', '.join(DISTRIBUTIONS)}"
            raise ConfigError(what=f"sweep.random has {path}", expected=expected, fix=fix)
        _check_bounds(f"sweep.random.{path}", kind, bounds)
        ranges[key] = kind, bounds
    return [{key: _draw(keys.seed, place, key, *how) for key, how in ranges.items()} for place in range(keys.count)][
        : keys.count if ranges else 0
    ]


def _draw(seed: int, place: int, key: str, kind: str, bounds: Sequence[Any]) -> Any:
    """A value; each key has a stream of its own, so that another key beside it changes nothing."""
    share = float(torch.rand((), generator=generator(seed, place, f"{Stream.SWEEP}/{key}"), dtype=torch.float64))
    return DISTRIBUTIONS[kind](share, bounds)


def _uniform(share: float, bounds: Sequence[Any]) -> Any:
    low, high = bounds
    if isinstance(low, int) and isinstance(high, int):
        return low + int(share * (high - low + 1))
    return _rounded(low + share * (high - low))


def _log_uniform(share: float, bounds: Sequence[Any]) -> Any:
    low, high = bounds
    value = low * (high / low) ** share
    return round(value) if isinstance(low, int) and isinstance(high, int) else _rounded(value)


def _rounded(value: float) -> float:
    """With four digits, which a table can show and a command line repeat."""
    return float(f"{value:.4g}")


DISTRIBUTIONS = {
    "uniform": _uniform,
    "log_uniform": _log_uniform,
    "choice": lambda share, values: values[int(share * len(values))],
}
"""Name -> value for a number in [0, 1) and what the user wrote."""


def _check_bounds(path: str, kind: str, bounds: Any) -> None:
    is_right, expected = isinstance(bounds, list) and len(bounds) > 0, "a list of values"
    if kind != "choice":
        is_right = is_right and all(type(each) in (int, float) and math.isfinite(each) for each in bounds)
        is_right = is_right and len(bounds) == 2 and bounds[0] <= bounds[1] and (kind == "uniform" or bounds[0] > 0)
        expected = f"[low, high]{', both above 0' if kind == 'log_uniform' else ''}"
    if not is_right:
        raise ConfigError(what=f"{path} is {bounds}", expected=expected, fix=f"write {path}=[1,10], for example")


def _values(part: str, axes: Any) -> dict[str, list[Any]]:
    """Dotted key -> its values, whether the keys were written with dots or as groups in groups."""
    values = leaves(axes)
    for key, each in values.items():
        if not isinstance(each, list) or not each:
            expected, fix = "a list of values", f"write sweep.{part}.{key}=[1,2], for example"
            raise ConfigError(what=f"sweep.{part}.{key} is {plain(each)}", expected=expected, fix=fix)
    return values


def _joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {key: value for part in parts for key, value in part.items()}


def _assignments(key: str, value: Any) -> list[str]:
    """``a,b`` and ``1,2`` as ``a=1 b=2``."""
    keys = key.split(",")
    if len(keys) == 1:
        return [f"{key}={as_text(value)}"]
    values = value if isinstance(value, list) else str(value).split(",")
    if len(keys) != len(values):
        expected, fix = f"{len(keys)} values, with commas between", "write one value for each key"
        raise ConfigError(what=f"the sweep sets {key} to {value}", expected=expected, fix=fix)
    return [f"{name}={as_text(one)}" for name, one in zip(keys, values, strict=True)]
