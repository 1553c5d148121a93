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
from typing import Literal

from omegaconf import DictConfig, OmegaConf

from threestudio import registry
from threestudio.errors import ConfigError
from threestudio.utils.config_strict import (
    field_hints,
    is_dataclass_type,
    join,
    merge_structured,
    path_of,
    type_in_words,
    unknown_key,
    wrong_value,
)

USUAL_KEYS: dict[str, dict[str, object]] = {
    "trainer": {
        "max_steps": int,
        "log_every_n_steps": int,
        "accelerator": str,
        "precision": Literal["32-true", "16-mixed", "bf16-mixed"],
        "enable_progress_bar": bool,
    },
    "checkpoint": {"every_n_train_steps": int},
}
"""Group -> keyword arguments of Lightning's that configs set, and the values that need no second look."""


def complete(cfg: DictConfig) -> DictConfig:
    """Check every key of an experiment and fill in every default; the config is changed in place.

    Raises:
        ConfigError: For a name nothing is registered under, an unknown key, or a value of the wrong type.
    """
    missing = [key for key in ("data_type", "system_type") if not cfg[key]]
    if missing:
        what = f"{' and '.join(missing)} {'are' if missing[1:] else 'is'} not set"
        expected = "the registered names of a data module and of a system"
        raise ConfigError(what=what, expected=expected, fix="start from a config that says both: include: PATH")
    if not 0 <= cfg.seed < 2**32:
        raise ConfigError(what=f"seed is {cfg.seed}", expected="a whole number from 0 to 4294967295", fix="set seed=0")
    _complete_modules(cfg)
    _check_lightning(cfg)
    return cfg


def _check_lightning(cfg: DictConfig) -> None:
    """Check the groups that Lightning takes whole; it is imported only for keys and values that are not usual."""
    if all(
        key in USUAL_KEYS[group] and _accepts(USUAL_KEYS[group][key], cfg[group][key])
        for group in USUAL_KEYS
        for key in cfg[group]
    ):
        return
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import ModelCheckpoint

    check_arguments(pl.Trainer.__init__, cfg.trainer, "trainer")
    check_arguments(ModelCheckpoint.__init__, cfg.checkpoint, "checkpoint")


def _complete_modules(cfg: DictConfig) -> None:
    """Complete every ``thing`` that stands beside a ``thing_type``, and what is inside it."""
    path = path_of(cfg)
    for key in list(cfg):
        group = cfg._get_node(key)
        if not isinstance(group, DictConfig) or group._is_none():
            continue
        named = cfg[f"{key}_type"] if f"{key}_type" in cfg else None
        if named:
            config_class = named_config_class(named, join(path, f"{key}_type"))
            if config_class is not None:
                cfg[key] = OmegaConf.to_container(merge_structured(config_class, group, join(path, key)))
        _complete_modules(cfg[key])


def takes_text(config_class: type, tree: DictConfig, path: str) -> bool:
    """Whether a text is declared at a path, by a dataclass or by those of the ``..._type`` keys on the way.

    Args:
        config_class: Dataclass of the whole tree.
        tree: The keys, unresolved.
        path: Dotted; what is inside a list is declared by nobody.
    """
    where, reader, hint = "", config_class, None
    for part in path.split("."):
        hints = field_hints(reader) if is_dataclass_type(reader) else {}
        if part not in hints:
            return False
        hint, where = hints[part], join(where, part)
        if f"{part}_type" in hints:
            usual = getattr(reader, f"{part}_type", None)
            named = OmegaConf.select(tree, f"{where}_type", throw_on_resolution_failure=False) or usual
            reader = named_config_class(named, f"{where}_type") if named in registry.__modules__ else None
        else:
            reader = hint
    return hint is str or hint == str | None


def config_class_of(registered: object) -> type | None:
    """The dataclass of a registered class's keys: its ``Config``, or ``<its name>Config`` beside it in its module."""
    beside = vars(sys.modules.get(getattr(registered, "__module__", ""), object))
    return getattr(registered, "Config", None) or beside.get(f"{getattr(registered, '__name__', '')}Config")


def named_config_class(name: str, path: str) -> type | None:
    """The dataclass of a registered name's keys; from its own place, where it has one, so that its class can wait.

    Args:
        name: What is registered.
        path: The key that names it, for messages.

    Raises:
        ConfigError: If nothing holds the name.
    """
    place = registry.place_of(name)
    if place is not None and place.config is not None:
        return place.load(place.config)
    try:
        return config_class_of(registry.find(name))
    except ConfigError as error:
        raise ConfigError(what=f"{path}: {error.what}", expected=error.expected, fix=error.fix) from error


def check_arguments(function: Callable, keys: DictConfig, path: str) -> None:
    """Check keys against the parameters of a function: names, and values where the annotation is simple.

    Raises:
        ConfigError: For an unknown name or a value of the wrong type.
    """
    function = inspect.unwrap(function)
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    hints = _hints(function)
    for key in keys:
        if key not in names:
            raise unknown_key(join(path, key), names)
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
