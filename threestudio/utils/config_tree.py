"""Checking a whole experiment before anything is built.

Wherever a dataclass has a key ``thing_type`` beside a group ``thing``, the type names a registered class, and its
``Config`` says which keys the group takes. Walking these finds every misspelt key in milliseconds, and fills in every
default, so that the saved config says all that was used.
"""

import inspect
import sys
import types
import typing
from collections.abc import Callable

from omegaconf import DictConfig, OmegaConf

from threestudio import registry
from threestudio.errors import ConfigError
from threestudio.utils.config_strict import (
    join,
    merge_structured,
    path_of,
    type_in_words,
    unknown_key,
    wrong_value,
)


def complete(cfg: DictConfig) -> DictConfig:
    """Check every key of an experiment and fill in every default; the config is changed in place.

    Raises:
        ConfigError: For a name nothing is registered under, an unknown key, or a value of the wrong type.
    """
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import ModelCheckpoint

    for needed in ("data_type", "system_type"):
        if not cfg[needed]:
            names = ", ".join(registry.registered_names()) or "none is registered"
            raise ConfigError(what=f"{needed} is not set", expected=f"one of: {names}", fix=f"set {needed}=...")
    _complete_modules(cfg)
    check_arguments(pl.Trainer.__init__, cfg.trainer, "trainer")
    check_arguments(ModelCheckpoint.__init__, cfg.checkpoint, "checkpoint")
    return cfg


def _complete_modules(cfg: DictConfig) -> None:
    """Complete every ``thing`` that stands beside a ``thing_type``, and what is inside it."""
    path = path_of(cfg)
    for key in list(cfg):
        group = cfg._get_node(key)
        if not isinstance(group, DictConfig) or group._is_none():
            continue
        named = cfg[f"{key}_type"] if f"{key}_type" in cfg else None
        if named:
            config_class = config_class_of(_find(named, join(path, f"{key}_type")))
            if config_class is not None:
                cfg[key] = OmegaConf.to_container(merge_structured(config_class, group, join(path, key)))
        _complete_modules(cfg[key])


def config_class_of(registered: object) -> type | None:
    """The dataclass of a registered class's keys: its ``Config``, or ``<its name>Config`` beside it in its module."""
    beside = vars(sys.modules.get(getattr(registered, "__module__", ""), object))
    return getattr(registered, "Config", None) or beside.get(f"{getattr(registered, '__name__', '')}Config")


def _find(name: str, path: str) -> type:
    try:
        return registry.find(name)
    except ConfigError as error:
        raise ConfigError(what=f"{path}: {error.what}", expected=error.expected, fix=error.fix) from error


def check_arguments(function: Callable, keys: DictConfig, path: str) -> None:
    """Check keys against the parameters of a function: names, and values where the annotation is simple.

    Raises:
        ConfigError: For an unknown name or a value of the wrong type.
    """
    function = inspect.unwrap(function)
    known = [name for name in inspect.signature(function).parameters if name != "self"]
    hints = _hints(function)
    for key in keys:
        if key not in known:
            raise unknown_key(join(path, key), known)
        if key in hints and not _accepts(hints[key], keys[key]):
            raise wrong_value(join(path, key), keys[key], type_in_words(hints[key]))


def _hints(function: Callable) -> dict[str, object]:
    try:
        return typing.get_type_hints(function)
    except NameError:
        return {}


def _accepts(hint: object, value: object) -> bool:
    """Whether a plain value fits an annotation; anything but plain types and unions of them is let through."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_accepts(arg, value) for arg in typing.get_args(hint))
    if hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str):
        return isinstance(value, hint)
    if typing.get_origin(hint) is typing.Literal:
        return value in typing.get_args(hint)
    return not isinstance(value, str | int | float) if hint is not typing.Any else True
