"""The host: registry, plugins, strict config, base classes, saving, callbacks. It knows no Gaussian and no score.

Importing it is quick: torch and Lightning come in with the sub-modules that need them.
"""

import importlib
from pathlib import Path
from types import ModuleType

from threestudio.log import debug, info, warn
from threestudio.plugins import install_finder, load_plugins
from threestudio.registry import __modules__, find, register, register_early_check, register_file_keys, register_places

__version__ = "0.1.0"

_SUBMODULES = {path.stem for path in Path(__file__).parent.iterdir()}

install_finder()


def __getattr__(name: str) -> ModuleType:
    if name in _SUBMODULES:
        return importlib.import_module(f"threestudio.{name}")
    raise AttributeError(f"module 'threestudio' has no attribute {name!r}")
