"""What ``launch.py --run NAME`` starts: anything registered under ``app-NAME``.

A class is built with the overrides that start with ``run.`` (``run.port=8080``; without ``--config`` the prefix may be
left out), checked against its ``Config``, and then called with the experiment. A function is called with the
experiment. The result is the exit code, None for 0. An app whose attribute ``needs_config`` is False may be started
without ``--config``, and is then called with None. An app with an attribute ``positional``, a tuple of its keys, takes
options without ``key=`` in that order. The first line of its docstring is its help, and the docstrings below the fields
of its ``Config`` are the help of its keys.
"""

import ast
import dataclasses
import inspect
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from threestudio import registry
from threestudio.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

PREFIX = "app-"


def app_names() -> list[str]:
    """Names that ``--run`` takes."""
    return [name.removeprefix(PREFIX) for name in registry.registered_names(PREFIX)]


def find_app(name: str) -> Any:
    """The app of this name.

    Raises:
        ConfigError: If there is none; carries the nearest name.
    """
    names = app_names()
    if name not in names:
        near = registry.did_you_mean(name, names)
        expected = f"one of: {', '.join(names)}" if names else "an app, but no plugin registers any"
        fix = f"did you mean --run {near}?" if near else "launch.py --run lists them"
        raise ConfigError(what=f"--run {name}: there is no such app", expected=expected, fix=fix)
    return registry.find(f"{PREFIX}{name}")


def list_apps() -> str:
    """Every app with the first line of its docstring; no app is imported for it."""
    names = app_names()
    width = max(map(len, names), default=0)
    return "\n".join(f"  {name:<{width}}  {_summary(f'{PREFIX}{name}')}".rstrip() for name in names)


def app_help(name: str) -> str:
    """What an app does, and its keys with their types, defaults and meanings.

    Raises:
        ConfigError: If there is no such app.
    """
    app = find_app(name)
    config_class = getattr(app, "Config", None)
    positional = getattr(app, "positional", ())
    words = " ".join(f"[{key.upper()}]" for key in positional)
    config = "--config X " if needs_config(app) else ""
    usage = f"usage: launch.py --run {name} {config}{words}{' ' if words else ''}[key=value ...]"
    about = inspect.cleandoc(app.__doc__ or "")
    rows = [] if config_class is None else [_row(*key) for key in describe_keys(config_class)]
    prefix = "\nWith --config, each key is written with run. before it." if rows else ""
    keys = "\n".join(["keys:", *rows]) + prefix if rows else "It takes no keys."
    order = f"Values without key= are, in this order: {', '.join(positional)}." if positional else ""
    return "\n\n".join(filter(None, [usage, about, order, keys]))


def describe_keys(config_class: type, path: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Path, type in words, default and meaning of every key of a dataclass, and of the dataclasses inside it."""
    from threestudio.utils.config_strict import field_hints, is_dataclass_type, join, type_in_words

    hints, meanings = field_hints(config_class), _field_docstrings(config_class)
    for field in dataclasses.fields(config_class):
        name, hint = join(path, field.name), hints[field.name]
        if is_dataclass_type(hint):
            yield from describe_keys(hint, name)
            continue
        has_default = field.default not in (dataclasses.MISSING, "???")
        make: Any = field.default_factory
        default = repr(field.default) if has_default else "must be set"
        if make is not dataclasses.MISSING:
            default = repr(make())
        kind = "a value" if hint is Any else type_in_words(hint)
        yield name, kind, default, meanings.get(field.name, "")


def needs_config(app: object) -> bool:
    """Whether an app can only be started with ``--config``."""
    return getattr(app, "needs_config", True)


def split_overrides(overrides: Sequence[str], has_config: bool) -> tuple[list[str], list[str]]:
    """Overrides of the experiment, and those of the app with their ``run.`` taken off."""
    own = [text.removeprefix("run.") for text in overrides if text.startswith("run.") or not has_config]
    return [text for text in overrides if has_config and not text.startswith("run.")], own


def start(name: str, cfg: "DictConfig | None", options: Sequence[str] = ()) -> int:
    """Start an app.

    Args:
        name: As after ``--run``.
        cfg: The experiment, or None.
        options: ``key=value`` texts for the app's own ``Config``.

    Returns:
        The exit code.

    Raises:
        ConfigError: If the app is unknown or does not take an option.
    """
    from omegaconf import OmegaConf

    from threestudio.utils.config_files import parse_override, parse_value
    from threestudio.utils.config_tree import takes_text

    app = find_app(name)
    config_class = getattr(app, "Config", None)
    keys = OmegaConf.create({})
    positional = iter(getattr(app, "positional", ()))
    for text in options:
        word = None if "=" in text else next(positional, None)
        key, value = parse_override(text) if word is None else (word, text)
        is_text = config_class is not None and takes_text(config_class, keys, key)
        OmegaConf.update(keys, key, parse_value(value, is_text))
    if inspect.isclass(app):
        build: Any = app
        return int(build(keys)(cfg) or 0)
    if keys:
        first = next(iter(keys))
        raise ConfigError(what=f"--run {name} was given {first}", expected="no options", fix=f"leave {first} out")
    return int(app(cfg) or 0)


def _row(name: str, kind: str, default: str, meaning: str) -> str:
    about = textwrap.fill(meaning, 100, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return f"  {name}  ({kind}; {default})" + (f"\n{about}" if about.strip() else "")


def _summary(name: str) -> str:
    """First line of the docstring of what is registered under a name, read from the source if it has a place."""
    place = registry.place_of(name)
    if place is None:
        return (inspect.getdoc(registry.find(name)) or "").partition("\n")[0]
    module, _, attribute = place.target.partition(":")
    root = Path(sys.modules[place.package].__file__ or "").parent.joinpath(*module.split("."))
    file = root.with_suffix(".py") if root.with_suffix(".py").is_file() else root / "__init__.py"
    for node in ast.parse(file.read_bytes(), str(file)).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == attribute:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def _field_docstrings(config_class: type) -> dict[str, str]:
    """The text below each field of a dataclass and of the classes it inherits from."""
    texts: dict[str, str] = {}
    for cls in reversed(config_class.__mro__):
        if not dataclasses.is_dataclass(cls):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
                texts[field.target.id] = " ".join(str(getattr(below.value, "value", "")).split())
    return texts
