"""Merging written keys into a dataclass, strictly: every key known, every value of its type, full path in errors."""

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeGuard

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from threestudio.errors import ConfigError, is_user_error
from threestudio.registry import did_you_mean
from threestudio.utils.schedule import EXPECTED, is_number, schedule_problem


def join(path: str, key: object) -> str:
    """Dotted path of a key below a path; a list index is written ``[i]``."""
    text = str(key)
    return f"{path}{text}" if text.startswith("[") or not path else f"{path}.{text}"


def unknown_key(path: str, names: list[str], fix: str | None = None) -> ConfigError:
    """The error for a key that nothing knows.

    Args:
        path: Full dotted path.
        names: Keys that are there.
        fix: What to do; None: take the nearest of the names.
    """
    parent, _, key = path.rpartition(".")
    names = list(dict.fromkeys(names))
    near = did_you_mean(key, names)
    return ConfigError(
        what=f"unknown key {path}",
        expected=f"one of: {', '.join(names)}" if names else "no keys here",
        fix=fix or (f"did you mean {join(parent, near)}?" if near else "remove it, or use one of these keys"),
    )


def wrong_value(path: str, value: object, expected: str, fix: str | None = None) -> ConfigError:
    """The error for a value of the wrong type or outside its choices."""
    return ConfigError(what=f"{path} is {value!r}", expected=expected, fix=fix or f"change {path}")


def type_in_words(hint: object) -> str:
    """A type annotation as a user would say it: ``int | None`` is "a whole number or nothing (null)"."""
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}
    if hint in words:
        return words[hint]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return "one of: " + ", ".join(str(arg) for arg in args)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_in_words(arg) for arg in args)
    if origin in (list, tuple):
        inner = {type_in_words(arg) for arg in args if arg not in (Ellipsis, Any)}
        count = f" {len(args)}" if origin is tuple and Ellipsis not in args else ""
        return f"a list of{count} values, each {' or '.join(sorted(inner))}" if inner else "a list"
    if hint is dict or origin is dict or dataclasses.is_dataclass(hint):
        return "a group of keys"
    return getattr(hint, "__name__", str(hint))


def is_dataclass_type(hint: object) -> TypeGuard[type]:
    """Whether an annotation is a dataclass."""
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def field_hints(config_class: type) -> dict[str, Any]:
    """The annotations of a dataclass's fields, in order."""
    hints = typing.get_type_hints(config_class)
    return {field.name: hints[field.name] for field in dataclasses.fields(config_class)}


def merge_structured(config_class: type, cfg: object, path: str = "") -> DictConfig:
    """Merge keys into a dataclass. Null unsets a key: where nothing is no value of it, its default holds.

    Args:
        config_class: The dataclass; its ``__post_init__``, if any, runs on the merged values.
        cfg: A mapping or DictConfig, or None for the defaults.
        path: Where these keys stand in the whole config, for messages.

    Returns:
        The structured config. A child of a larger config keeps its place in it, so that paths stay whole.

    Raises:
        ConfigError: For an unknown key, a value of the wrong type, or a required key that is not set.
    """
    keys = _without_unset(config_class, _as_mapping(cfg, path))
    _check_keys(config_class, keys, path)
    schema = OmegaConf.structured(config_class)
    try:
        merged = merge(schema, keys)
        if hasattr(config_class, "__post_init__"):
            _check_required(merged, path)
            checked: Any = OmegaConf.to_object(merged)
            merged = merge(schema, literal(dataclasses.asdict(checked)))
    except OmegaConfBaseException as cause:
        if cause.__cause__ is not None and is_user_error(cause.__cause__):
            raise cause.__cause__ from cause
        raise _explain(cause, config_class, keys, path) from cause
    _check_required(merged, path)
    _check_schedules(config_class, merged, path)
    if isinstance(cfg, DictConfig) and cfg._get_parent() is not None:
        merged._set_parent(cfg._get_parent())
        merged._set_key(cfg._key())
    return merged


def merge(*parts: object) -> DictConfig:
    """Groups of keys as one; what comes later wins.

    Raises:
        ConfigError: If a list stands where another part has a group of keys.
    """
    try:
        merged = OmegaConf.merge(*parts)  # pyright: ignore[reportArgumentType]  # its annotation leaves plain dicts out
    except TypeError as cause:
        expected = "a list where a list stands, and a group of keys where there is one"
        what = f"the keys of the files and of the command line do not go together ({cause})"
        fix = "correct the key that is a list in one place and not in the other"
        raise ConfigError(what=what, expected=expected, fix=fix) from cause
    assert isinstance(merged, DictConfig)
    return merged


def path_of(cfg: object) -> str:
    """Where a config node stands in the whole config; empty at the top and for plain mappings."""
    parent = cfg._get_parent() if isinstance(cfg, DictConfig) else None
    if isinstance(cfg, DictConfig) and isinstance(parent, DictConfig | ListConfig):
        return parent._get_full_key(cfg._key())
    return ""


def literal(value: Any) -> Any:
    """Plain values in which every ``${`` is escaped: a config of them has no references, and reads as the values do."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    if isinstance(value, Mapping):
        return {key: literal(inner) for key, inner in value.items()}
    return [literal(inner) for inner in value] if isinstance(value, list | tuple) else value


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The keys with every reference replaced; a ``${`` that is left belongs to a text, and is escaped again."""
    return literal(OmegaConf.to_container(cfg, resolve=True))


def _as_mapping(cfg: object, path: str) -> DictConfig:
    if cfg is None or (isinstance(cfg, DictConfig) and cfg._is_none()):
        return OmegaConf.create({})
    if isinstance(cfg, DictConfig):
        return OmegaConf.create(resolved(cfg))
    if isinstance(cfg, Mapping):
        return OmegaConf.create(dict(cfg))
    raise wrong_value(path or "the config", cfg, "a group of keys")


def _without_unset(config_class: type, keys: DictConfig) -> DictConfig:
    """The keys without those that are null where the dataclass takes no null."""
    defaults = {field.name: field.default for field in dataclasses.fields(config_class)}
    for key, hint in field_hints(config_class).items():
        if key not in keys:
            continue
        takes_null = type(None) in typing.get_args(hint) or (hint is Any and not is_number(defaults[key]))
        if keys[key] is None and not takes_null:
            del keys[key]
        elif is_dataclass_type(hint) and isinstance(keys[key], DictConfig):
            _without_unset(hint, keys[key])
    return keys


def _check_keys(config_class: type, keys: DictConfig, path: str) -> None:
    hints = field_hints(config_class)
    for key in keys:
        if key not in hints:
            raise unknown_key(join(path, key), list(hints))
        value = keys[key]
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, DictConfig):
                raise wrong_value(join(path, key), value, f"a group with {', '.join(field_hints(hints[key]))}")
            _check_keys(hints[key], value, join(path, key))


def _check_required(merged: DictConfig, path: str) -> None:
    missing = sorted(OmegaConf.missing_keys(merged))
    if missing:
        name = join(path, missing[0])
        raise ConfigError(what=f"{name} is not set", expected="a value; it has no default", fix=f"set {name}=...")


def _check_schedules(config_class: type, merged: DictConfig, path: str) -> None:
    """A field annotated ``Any`` whose default is a number takes numbers and schedules, nothing else."""
    for field in dataclasses.fields(config_class):
        hint = field_hints(config_class)[field.name]
        value = merged[field.name]
        if is_dataclass_type(hint) and isinstance(value, DictConfig):
            _check_schedules(hint, value, join(path, field.name))
        if hint is not Any or not is_number(field.default):
            continue
        plain = OmegaConf.to_container(value) if isinstance(value, ListConfig) else value
        problem = schedule_problem(plain)
        if problem is not None:
            raise wrong_value(join(path, field.name), plain, EXPECTED)


def _explain(cause: OmegaConfBaseException, config_class: type, keys: DictConfig, path: str) -> ConfigError:
    """Say in our words which value omegaconf refused; it names most keys, the others are found by trying."""
    full_key = cause.full_key or _find_refused(config_class, keys)
    hint: Any = config_class
    for part in full_key.replace("[", ".[").split("."):
        if is_dataclass_type(hint):
            hint = field_hints(hint).get(part, Any)
    value = OmegaConf.select(keys, full_key) if full_key else keys
    value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    choices = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
    near = did_you_mean(str(value), map(str, choices))
    fix = f"did you mean {near}?" if near else None
    return wrong_value(join(path, full_key), value, type_in_words(hint), fix)


def _find_refused(config_class: type, keys: DictConfig) -> str:
    schema = OmegaConf.structured(config_class)
    for key in keys:
        try:
            OmegaConf.merge(schema, {key: keys[key]})
        except OmegaConfBaseException:
            return str(key)
    return ""
