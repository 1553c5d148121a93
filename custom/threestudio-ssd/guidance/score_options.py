"""A score from the few words of a config: its name, a preset, and any of its own fields."""

import dataclasses
import difflib
import math
import typing
from collections.abc import Mapping
from typing import Any, Literal

from ..errors import ConfigError
from ..scores import SCORES, SSD, Score, ssd_paper

PRESETS = {"ssd-code": SSD(), "ssd-paper": ssd_paper(), "ssd-small": SSD(enhance_weight=2.0)}
"""Complete scores by name: the released code's effective weights, the weights of the paper's equations, and little
enhancement, for small models."""


def build_score(options: Mapping[str, Any], key: str = "system.guidance.score") -> Score:
    """The score that ``{name: ..., field: value, ...}`` describes.

    Args:
        options: ``name`` is a key of ``SCORES`` or of ``PRESETS``; the rest are fields of that score.
        key: Where the options stand in the config, for messages.

    Raises:
        ConfigError: For an unknown name, an unknown field, or a value of the wrong type.
    """
    fields = dict(options)
    name = fields.pop("name", "ssd")
    names = [*SCORES, *PRESETS]
    if name not in names:
        what = f"{key}.name is {name!r}"
        raise ConfigError(what=what, expected=f"one of {', '.join(names)}", fix=_suggest(f"{key}.name", name, names))
    base = PRESETS[name] if name in PRESETS else SCORES[name]()
    defaults = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    for field, value in fields.items():
        if field not in defaults:
            expected, fix = f"one of {', '.join(defaults)}", _suggest(key, field, list(defaults))
            raise ConfigError(what=f"{key}.{field} is not a field of the score {name}", expected=expected, fix=fix)
        hint = typing.get_type_hints(type(base))[field]
        choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
        fields[field] = _checked(f"{key}.{field}", value, defaults[field], choices)
    return dataclasses.replace(base, **fields)


def _checked(key: str, value: Any, default: Any, choices: tuple[str, ...]) -> Any:
    """The value in the type of the default: a word out of ``choices``, a truth value, a whole number or a number."""
    if choices:
        if value in choices:
            return value
        raise ConfigError(
            what=f"{key} is {value!r}", expected=f"one of {', '.join(choices)}", fix=_suggest(key, value, list(choices))
        )
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        raise ConfigError(what=f"{key} is {value!r}", expected="true or false", fix=f"set {key}={str(default).lower()}")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_finite = is_number and math.isfinite(value)
    if is_finite and (isinstance(default, float) or value == int(value)):
        return type(default)(value)
    kind = "a number" if not is_number else "a whole number" if is_finite else "a finite number"
    raise ConfigError(what=f"{key} is {value!r}", expected=kind, fix=f"set {key}={default}")


def _suggest(key: str, wrong: object, words: list[str]) -> str:
    close = difflib.get_close_matches(str(wrong), words, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"choose one of those for {key}"
