"""What ``${name:...}`` means in a config: those of upstream threestudio's resolvers that configs here use."""

import html
import os
from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf import OmegaConf
from omegaconf.resolvers import oc

from threestudio.utils.schedule import largest_value


def C_max(value: object) -> float:
    """The largest value a number or schedule takes."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True)
    return largest_value(value)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{str(value)[:80]!r} is no number")
    return value


SHORTEST = 4
"""Characters of a value of the environment that is looked for in reports; shorter ones are in every text."""
_taken: dict[str, str] = {}
_is_hiding = [False]


def environment(name: str, *default: object) -> object:
    """``${oc.env:NAME}``: a variable of the environment. What it was is hidden from what a run leaves behind."""
    reference = f"${{oc.env:{','.join(map(str, (name, *default)))}}}"
    if _is_hiding[0]:
        return reference
    if name in os.environ:
        _taken[os.environ[name]] = reference
    return oc.env(name, *default)


@contextmanager
def hiding() -> Iterator[None]:
    """While it lasts, variables of the environment resolve to how they are written."""
    _is_hiding[0] = True
    try:
        yield
    finally:
        _is_hiding[0] = False


def without_environment(text: str) -> str:
    """A text in which every value that a config took from the environment is written as the config has it."""
    for value, reference in sorted(_taken.items(), key=lambda pair: -len(pair[0])):
        if len(value) >= SHORTEST:
            text = text.replace(value, reference).replace(html.escape(value), reference)
    return text


RESOLVERS = {
    "oc.env": environment,
    "mul": lambda a, b: _number(a) * _number(b),
    "div": lambda a, b: _number(a) / _number(b),
    "rmspace": lambda text, filler: str(text).replace(" ", filler),
}


def register_resolvers() -> None:
    """Make the resolvers known to omegaconf; doing so again changes nothing."""
    for name, function in RESOLVERS.items():
        OmegaConf.register_resolver(name, function, replace=True)
