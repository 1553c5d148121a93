"""What ``launch.py --run NAME`` starts: anything registered under ``app-NAME``.

A class is built with the overrides that start with ``run.`` (``run.port=8080``; without ``--config`` the prefix may be
left out), checked against its ``Config``, and then called with the experiment. A function is called with the
experiment. The result is the exit code, None for 0. An app whose attribute ``needs_config`` is False may be started
without ``--config``, and is then called with None. An app with an attribute ``positional``, a tuple of its keys, takes
options without ``key=`` in that order. The first line of its docstring is its help.
"""

import inspect
from collections.abc import Callable, Sequence

from omegaconf import DictConfig, OmegaConf

from threestudio import registry
from threestudio.errors import ConfigError
from threestudio.utils.config_files import parse_override, parse_value

PREFIX = "app-"


def app_names() -> list[str]:
    """Names that ``--run`` takes."""
    return [name.removeprefix(PREFIX) for name in registry.registered_names(PREFIX)]


def find_app(name: str) -> Callable:
    """The app of this name.

    Raises:
        ConfigError: If there is none; carries the nearest name.
    """
    names = app_names()
    if name not in names:
        near = registry.did_you_mean(name, names)
        raise ConfigError(
            what=f"--run {name}: there is no such app",
            expected=f"one of: {', '.join(names)}" if names else "an app, but no plugin registers any",
            fix=f"did you mean --run {near}?" if near else "see docs for the list of apps",
        )
    return registry.find(f"{PREFIX}{name}")


def needs_config(app: Callable) -> bool:
    """Whether an app can only be started with ``--config``."""
    return getattr(app, "needs_config", True)


def split_overrides(overrides: Sequence[str], has_config: bool) -> tuple[list[str], list[str]]:
    """Overrides of the experiment, and those of the app with their ``run.`` taken off."""
    own = [text.removeprefix("run.") for text in overrides if text.startswith("run.") or not has_config]
    return [text for text in overrides if has_config and not text.startswith("run.")], own


def start(name: str, cfg: DictConfig | None, options: Sequence[str] = ()) -> int:
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
    app = find_app(name)
    keys = OmegaConf.create({})
    positional = iter(getattr(app, "positional", ()))
    for text in options:
        word = None if "=" in text else next(positional, None)
        key, value = parse_override(text) if word is None else (word, text)
        OmegaConf.update(keys, key, parse_value(value))
    if inspect.isclass(app):
        return int(app(keys)(cfg) or 0)
    if keys:
        first = next(iter(keys))
        raise ConfigError(what=f"--run {name} was given {first}", expected="no options", fix=f"leave {first} out")
    return int(app(cfg) or 0)
