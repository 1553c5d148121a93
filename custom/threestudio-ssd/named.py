"""Classes that configs name: how one becomes known, and how it is built from its name, a preset, and its own fields."""

import dataclasses
import difflib
import math
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from .errors import ConfigError

Named = TypeVar("Named")
NamedClass = TypeVar("NamedClass", bound=type)


def registrar(
    name: str, classes: dict[str, Any], base: type, *, kind: str, kinds: str
) -> Callable[[NamedClass], NamedClass]:
    """A decorator that makes a class known to configs.

    Args:
        name: What configs call it.
        classes: Where it is kept, by name.
        base: What it has to be a subclass of.
        kind: What such a thing is called, for messages.
        kinds: The same of several.

    Raises:
        TypeError: When it decorates no subclass of ``base``.
        ValueError: If another class holds the name. The same definition, imported again, replaces itself.
    """

    def decorator(cls: NamedClass) -> NamedClass:
        if not (isinstance(cls, type) and issubclass(cls, base)):
            raise TypeError(f"the {kind} {name!r} is {cls!r}, which is no subclass of {base.__name__}")
        held = classes.get(name, cls)
        if (held.__module__, held.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"two {kinds} are called {name!r}: {held.__qualname__} and {cls.__qualname__}")
        classes[name] = cls
        return cls

    return decorator


def build_named(
    options: Mapping[str, Any],
    classes: Mapping[str, type[Named]],
    *,
    key: str,
    kind: str,
    default: str,
    presets: Mapping[str, Named] | None = None,
) -> Named:
    """What ``{name: ..., field: value, ...}`` describes.

    Args:
        options: ``name`` is a key of ``classes`` or of ``presets``; the rest are fields of that dataclass.
        classes: Dataclasses by name; all of their fields have defaults.
        key: Where the options stand in the config, for messages.
        kind: What such a thing is called, for messages.
        default: The name where none is given.
        presets: Complete ones by name.

    Raises:
        ConfigError: For an unknown name, an unknown field, or a value of the wrong type.
    """
    fields, presets = dict(options), presets or {}
    name = fields.pop("name", default)
    names = [*classes, *presets]
    if name not in names:
        what = f"{key}.name is {name!r}"
        raise ConfigError(what=what, expected=f"one of {', '.join(names)}", fix=_suggest(f"{key}.name", name, names))
    base: Any = presets[name] if name in presets else classes[name]()
    defaults = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    for field, value in fields.items():
        if field not in defaults:
            expected, fix = f"one of {', '.join(defaults)}", _suggest(key, field, list(defaults))
            raise ConfigError(what=f"{key}.{field} is not a field of the {kind} {name}", expected=expected, fix=fix)
        hint, default = typing.get_type_hints(type(base))[field], defaults[field]
        choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
        if default is None:  # of the type ``X | None``: what is set is an X
            if value is None:
                continue
            default = typing.get_args(hint)[0]()
        fields[field] = _checked(f"{key}.{field}", value, default, choices)
    return dataclasses.replace(base, **fields)


def _checked(key: str, value: Any, default: Any, choices: tuple[str, ...]) -> Any:
    """The value in the default's type: a word of ``choices``, keys, a text, a truth value, a whole number, a number."""
    if choices:
        if value in choices:
            return value
        raise ConfigError(
            what=f"{key} is {value!r}", expected=f"one of {', '.join(choices)}", fix=_suggest(key, value, list(choices))
        )
    if isinstance(default, Mapping):
        if isinstance(value, Mapping):
            return dict(value)
        raise ConfigError(what=f"{key} is {value!r}", expected="keys and values", fix=f"write {key}.NAME=VALUE")
    if isinstance(default, str):
        if isinstance(value, str):
            return value
        raise ConfigError(what=f"{key} is {value!r}", expected="a text", fix=f"write {key}='{value}'")
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
