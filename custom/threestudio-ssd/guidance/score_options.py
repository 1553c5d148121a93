"""A score from the few words of a config: its name, a preset, and any of its own fields."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..scores import SCORES, SSD, ssd_paper

PRESETS = {"ssd-code": SSD(), "ssd-paper": ssd_paper()}
"""Complete scores by name: the released code's effective weights, and the paper's equations read literally."""


def build_score(options: Mapping[str, Any], key: str = "system.guidance.score"):
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
        raise ConfigError(
            what=f"{key}.name is {name!r}", expected=f"one of {', '.join(names)}", fix=_suggest(f"{key}.name", name, names)
        )
    base = PRESETS[name] if name in PRESETS else SCORES[name]()
    known = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    for field, value in fields.items():
        if field not in known:
            raise ConfigError(
                what=f"{key}.{field} is not a field of the score {name}",
                expected=f"one of {', '.join(known)}",
                fix=_suggest(key, field, list(known)),
            )
        fields[field] = _checked(f"{key}.{field}", value, known[field])
    return dataclasses.replace(base, **fields)


def _checked(key: str, value: Any, default: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, str) if isinstance(value, str) else is_number:
        return value if isinstance(value, str) else type(default)(value)
    kind = "a word" if isinstance(default, str) else "a number"
    raise ConfigError(what=f"{key} is {value!r}", expected=kind, fix=f"set {key}={default}")


def _suggest(key: str, wrong: str, known: list[str]) -> str:
    close = difflib.get_close_matches(str(wrong), known, n=1, cutoff=0.4)
    return f"did you mean {close[0]}?" if close else f"choose one of those for {key}"
