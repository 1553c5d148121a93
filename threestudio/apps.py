"""What ``launch.py --run NAME`` starts: anything registered under ``app-NAME``.

A class is built with the overrides that name its own keys, checked against its ``Config``, and then called with the
experiment. All other overrides are the experiment's; ``run.`` before a key says that it is the app's, where both have
it. A function is called with the experiment. The result is the exit code, None for 0. An app whose attribute
``needs_config`` is False may be started without ``--config``, and is then called with None, or with the experiment of
its attribute ``usual_config``, a path in the repository. An app with an attribute ``positional``, a tuple of its keys,
takes options without ``key=`` in that order; a key that is a list takes all that are left. One whose attribute
``is_resumable`` is True goes on where it was stopped when it is started again. The first line of its docstring is its
help, and the docstrings below the fields of its ``Config`` are the help of its keys.
"""

import ast
import dataclasses
import inspect
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_origin

from threestudio import registry
from threestudio.errors import ConfigError
from threestudio.plugins import REPOSITORY

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
    words = " ".join(f"[{key.upper()}{' ...' * _is_list(app, key)}]" for key in positional)
    config = "--config X " if needs_config(app) else ""
    usage = f"usage: launch.py --run {name} {config}{words}{' ' if words else ''}[key=value ...]"
    about = inspect.cleandoc(app.__doc__ or "")
    rows = [] if config_class is None else [_row(*key) for key in describe_keys(config_class)]
    prefix = "\nA key that the config has as well is written with run. before it." if rows else ""
    usual = getattr(app, "usual_config", None)
    prefix += f"\nThe keys of {usual} can be set as well; --config names another." if usual else ""
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


def usual_config(app: object) -> str | None:
    """The config that an app runs with where ``--config`` names none: a file here, or that of the repository."""
    path = getattr(app, "usual_config", None)
    return path if path is None or Path(path).exists() else str(REPOSITORY / path)


def split_overrides(
    name: str, overrides: Sequence[str], experiment: Mapping[str, bool] | None
) -> tuple[list[str], list[str]]:
    """Overrides of the experiment, and those of the app with their ``run.`` taken off.

    Args:
        name: Of the app.
        overrides: ``key=value`` texts, and values alone where the app takes such.
        experiment: Keys at the top of the experiment, and whether each is a group; None: there is no experiment.

    Raises:
        ConfigError: For a key that both have, or a misspelt one of the app.
    """
    if experiment is None:
        return [], [text.removeprefix("run.") for text in overrides]
    from threestudio.utils.config_strict import field_hints

    app = find_app(name)
    config_class = getattr(app, "Config", None)
    hints = {} if config_class is None else field_hints(config_class)
    of_experiment, own = [], []
    for text in overrides:
        key, equals, _ = text.partition("=")
        if text.startswith("run."):
            own.append(text.removeprefix("run."))
        elif _is_own(name, key, hints, experiment) if equals else bool(getattr(app, "positional", ())):
            own.append(text)
        else:
            of_experiment.append(text)
    return of_experiment, own


def _is_own(name: str, key: str, hints: Mapping[str, Any], experiment: Mapping[str, bool]) -> bool:
    """Whether a key is the app's, and not the experiment's."""
    from threestudio.utils.config_strict import is_dataclass_type, unknown_key

    top = key.split(".")[0].split("[")[0]
    if top not in hints:
        names = [*hints, *experiment]
        if top not in experiment and registry.did_you_mean(top, names) in hints:
            raise unknown_key(top, names)
        return False
    is_group = is_dataclass_type(hints[top])
    if top not in experiment or (key == top and experiment[top] and not is_group):
        return True
    if key != top and not is_group:
        return False
    raise ConfigError(
        what=f"{key} is a key of --run {name} and of the experiment", expected="one of the two",
        fix=f"write run.{key}=... for that of {name}, or set the experiment's in its file",
    )  # fmt: skip


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
    positional = list(getattr(app, "positional", ()))
    for text in options:
        word = None if "=" in text or not positional else positional[0]
        if word is not None and _is_list(app, word):
            OmegaConf.update(keys, word, [*keys.get(word, []), text])
            continue
        positional = positional[word is not None :]
        key, value = parse_override(text) if word is None else (word, text)
        _check_is_key(app, key, text)
        is_text = config_class is not None and takes_text(config_class, keys, key)
        OmegaConf.update(keys, key, parse_value(value, is_text))
    if inspect.isclass(app):
        build: Any = app
        return int(build(keys)(cfg) or 0)
    if keys:
        first = next(iter(keys))
        raise ConfigError(what=f"--run {name} was given {first}", expected="no options", fix=f"leave {first} out")
    return int(app(cfg) or 0)


def _is_list(app: Any, key: str) -> bool:
    """Whether a key of an app is a list."""
    from threestudio.utils.config_strict import field_hints

    return get_origin(field_hints(app.Config)[key]) is list


def _check_is_key(app: Any, key: str, text: str) -> None:
    """Refuse what looks like a key and is a value with ``=`` in it, as a file name may be, by saying how to write it.

    Raises:
        ConfigError: Where the app takes values without keys and has no key that is near this one.
    """
    from threestudio.utils.config_strict import field_hints

    order = getattr(app, "positional", ())
    if not order or key.split(".")[0].split("[")[0] in (names := list(field_hints(app.Config))):
        return
    if registry.did_you_mean(key, names) is None:
        expected, fix = f"one of: {', '.join(names)}", f"a value that holds = is written {order[0]}={text}"
        raise ConfigError(what=f"unknown key {key}", expected=expected, fix=fix)


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
