"""What the Python call is given: the types its words may have, and their values as a config has them."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .errors import ConfigError


def checked(name: str, value: Any, kinds: tuple[type, ...], expected: str, fix: str) -> Any:
    """A value if it is of these types.

    Raises:
        ConfigError: If it is not; truth values are no numbers.
    """
    is_stray_bool = isinstance(value, bool) and bool not in kinds
    if not isinstance(value, kinds) or is_stray_bool:
        raise ConfigError(what=f"{name} is {shown_value(value)}", expected=expected, fix=fix)
    return value


def path_of(name: str, value: Any, fix: str) -> str:
    """A path, given as a text or a ``Path``."""
    return str(checked(name, value, (str, Path), "a path, as a text or a Path", fix))


def text_of(name: str, value: Any) -> str:
    """A text."""
    return checked(name, value, (str,), "a text", f'write {name}="..."')


def count_of(name: str, value: Any, least: int, usual: int) -> int:
    """A whole number, Python's or NumPy's, at least ``least``."""
    expected, fix = f"a whole number, at least {least}", f"write {name}={usual}, for example"
    number = int(checked(name, value, (int, np.integer), expected, fix))
    if number < least:
        raise ConfigError(what=f"{name} is {number}", expected=expected, fix=fix)
    return number


def number_of(name: str, value: Any, expected: str, fix: str) -> float:
    """A number, Python's or NumPy's."""
    return float(checked(name, value, (int, float, np.integer, np.floating), expected, fix))


def config_value(name: str, value: Any) -> Any:
    """A value as a YAML file would have it: arrays as lists, paths as texts, a dataclass as the keys that were set.

    Raises:
        ConfigError: If no file could say it.
    """
    if isinstance(value, np.generic | np.ndarray | Tensor):
        return value.tolist()
    if is_dataclass(value) and not isinstance(value, type):
        keys = {field.name: config_value(f"{name}.{field.name}", getattr(value, field.name)) for field in fields(value)}
        return {field.name: keys[field.name] for field in fields(value) if keys[field.name] != _default(field)}
    if isinstance(value, Mapping):
        return {str(key): config_value(f"{name}.{key}", inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [config_value(f"{name}[{index}]", inner) for index, inner in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    expected = "a text, a number, true or false, None, or lists and groups of these"
    fix = "write it as a config file would have it"
    return checked(name, value, (str, int, float, bool, type(None)), expected, fix)


def shown_value(value: Any) -> str:
    """A value and its type, short enough for a message."""
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'}, of type {type(value).__name__}"


def _default(field: Any) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
