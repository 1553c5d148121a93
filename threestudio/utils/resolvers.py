"""What ``${name:...}`` means in a config: upstream threestudio's resolvers, and ``repo`` for files shipped with us."""

import os
from pathlib import Path

from omegaconf import OmegaConf

from threestudio.plugins import REPOSITORY
from threestudio.utils.schedule import largest_value


def C_max(value: object) -> float:
    """The largest value a number or schedule takes."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True)
    return largest_value(value)


def repository_path(relative: str) -> str:
    """A file shipped in the repository, as a path from the current directory where that is possible."""
    path = REPOSITORY / relative
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return os.path.relpath(path)


RESOLVERS = {
    "calc_exp_lr_decay_rate": lambda factor, n: factor ** (1.0 / n),
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "idiv": lambda a, b: a // b,
    "basename": lambda path: os.path.basename(path),
    "rmspace": lambda text, filler: str(text).replace(" ", filler),
    "tuple2": lambda value: [float(value), float(value)],
    "gt0": lambda value: value > 0,
    "cmaxgt0": lambda value: C_max(value) > 0,
    "not": lambda value: not value,
    "ne": lambda a, b: a != b,
    "eq": lambda a, b: a == b,
    "cmaxgt0orcmaxgt0": lambda a, b: C_max(a) > 0 or C_max(b) > 0,
    "repo": repository_path,
}


def register_resolvers() -> None:
    """Make the resolvers known to omegaconf; doing so again changes nothing."""
    for name, function in RESOLVERS.items():
        OmegaConf.register_new_resolver(name, function, replace=True)
