"""Plugins: each sub-folder of ``custom/`` is a package, importable under its name with hyphens as underscores.

``custom/threestudio-ssd`` is ``import threestudio_ssd``: relative imports, sub-modules and pickling work as for any
package, because a finder on ``sys.meta_path`` answers for the name. The finder stands as soon as ``threestudio`` is
imported, and the folders are handed to child processes in the environment, so a spawned worker finds them too.
"""

import gc
import importlib
import importlib.metadata
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from threestudio import registry
from threestudio.errors import PluginError, is_user_error

T = TypeVar("T")

_FOLDERS_VARIABLE = "THREESTUDIO_PLUGIN_FOLDERS"
ENTRY_POINTS = "threestudio.plugins"
"""Group in which an installed distribution names its plugin packages."""


def packaged_plugins() -> list[Path]:
    """The folders of plugins that were installed as packages of their own, none of them imported."""
    names = [point.value for point in importlib.metadata.entry_points(group=ENTRY_POINTS)]
    specs = [importlib.util.find_spec(name) for name in sorted(set(names))]
    return [Path(spec.origin).parent for spec in specs if spec is not None and spec.origin is not None]


def _repository() -> Path:
    """The folder that shipped ``configs`` and ``data`` are in: the checkout, or ``shipped`` of an installed plugin."""
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "launch.py").is_file():
        return checkout
    return next((plugin / "shipped" for plugin in packaged_plugins()), checkout)


REPOSITORY = _repository()
"""Where shipped files are, by the paths that they have in a checkout."""


def module_name(folder: Path) -> str:
    """The name a plugin folder is imported under: ``threestudio-ssd`` gives ``threestudio_ssd``."""
    return folder.name.replace("-", "_")


def plugin_folders(folder: Path) -> list[Path]:
    """The plugins in a folder, sorted: sub-folders with an ``__init__.py``, but no hidden or ``.disabled`` ones."""
    if not folder.is_dir():
        return []
    packages = (path for path in folder.iterdir() if (path / "__init__.py").is_file())
    return sorted(path for path in packages if path.name[0] not in "._" and path.suffix != ".disabled")


def plugin_names() -> set[str]:
    """The names that plugins are imported under."""
    return {module_name(plugin) for plugin in _all_plugins()}


def _listed_folders() -> list[str]:
    return [text for text in os.environ.get(_FOLDERS_VARIABLE, "").split(os.pathsep) if text]


def _known_folders() -> list[Path]:
    own = REPOSITORY / "custom"
    return [*map(Path, _listed_folders()), *([own] if own.is_dir() else [])]


def _all_plugins() -> list[Path]:
    in_folders = [plugin for folder in _known_folders() for plugin in plugin_folders(folder)]
    return in_folders if (REPOSITORY / "custom").is_dir() else [*in_folders, *packaged_plugins()]


class PluginFinder(MetaPathFinder):
    """Finds the top package of a plugin; its sub-modules are then found by Python's own path finder."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """See ``importlib.abc.MetaPathFinder.find_spec``."""
        for plugin in _all_plugins():
            if module_name(plugin) == fullname:
                file, inside = plugin / "__init__.py", [str(plugin)]
                return importlib.util.spec_from_file_location(fullname, file, submodule_search_locations=inside)
        return None


def install_finder() -> None:
    """Put the finder at the end of ``sys.meta_path``, once."""
    if not any(type(finder).__name__ == PluginFinder.__name__ for finder in sys.meta_path):
        sys.meta_path.append(PluginFinder())


def call_in_worker(rank: int, function: Callable[..., Any], *args: Any) -> None:
    """Call a plugin's function in a spawned process, whose first thing is to find this module and so the finder."""
    function(rank, *args)


def load_plugins(folder: str | Path | None = None) -> dict[str, ModuleType]:
    """Import every plugin of a folder, so that it registers its classes; doing so again changes nothing.

    Args:
        folder: Holds one sub-folder per plugin. The default is ``custom`` beside the ``threestudio`` package (in an
            install: the plugins that are installed), and whatever folders were loaded before or stand in the variable
            ``THREESTUDIO_PLUGIN_FOLDERS``.

    Returns:
        The imported packages by module name.

    Raises:
        PluginError: If the folder is missing or a plugin cannot be imported; names the file and line of the cause.
    """
    install_finder()
    roots = _known_folders() if folder is None else [Path(folder).resolve()]
    for root in roots:
        if not root.is_dir():
            what = f"the plugin folder {root} does not exist"
            fix = f"check the path given to load_plugins, or the variable {_FOLDERS_VARIABLE}"
            raise PluginError(what=what, expected="a folder with one sub-folder per plugin", fix=fix)
        if root not in _known_folders():
            os.environ[_FOLDERS_VARIABLE] = os.pathsep.join([*_listed_folders(), str(root)])
    plugins = _all_plugins() if folder is None else plugin_folders(roots[0])
    return {module_name(plugin): _load_one(plugin) for plugin in plugins}


def _load_one(plugin: Path) -> ModuleType:
    name = module_name(plugin)
    if not name.isidentifier():
        expected, fix = "letters, digits, hyphens and underscores, not a digit first", "rename the folder"
        raise PluginError(what=f"the plugin folder {plugin.name!r} cannot be a module name", expected=expected, fix=fix)
    held = sys.modules.get(name)
    if held is not None and Path(held.__file__ or "").parent.resolve() != plugin.resolve():
        what = f"the plugin {plugin} would be imported as {name}, which is already {held.__file__}"
        raise PluginError(what=what, expected="one folder for each module name", fix="rename one of the folders")
    tables = registry.__modules__, registry.EARLY_CHECKS
    before = [dict(table) for table in tables]
    try:
        return importlib.import_module(name)
    except Exception as cause:
        for loaded in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
            del sys.modules[loaded]
        for table, kept in zip(tables, before, strict=True):
            table.clear()
            table.update(kept)
        if is_user_error(cause):
            raise
        raise _broken(plugin, cause) from cause


def import_part(name: str, pick: Callable[[ModuleType], T]) -> T:
    """Import a module of a loaded plugin and take something out of it.

    Args:
        name: Full name of the module.
        pick: Takes the thing out of the module.

    Raises:
        PluginError: If it cannot be imported, or the thing is not in it; names the file and line of the cause.
    """
    try:
        with _uncollected():
            return pick(importlib.import_module(name))
    except Exception as cause:
        package = sys.modules.get(name.partition(".")[0])
        if is_user_error(cause) or package is None:
            raise
        raise _broken(Path(package.__file__ or "").parent, cause) from cause


@contextmanager
def _uncollected() -> Iterator[None]:
    """Inside this block the garbage collector waits: modules stay, and looking through torch's costs 0.13 s of 0.93."""
    is_running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_running:
            gc.enable()


def _broken(plugin: Path, cause: Exception) -> PluginError:
    """The error for a plugin that raised while it was imported."""
    return PluginError(
        what=f"the plugin {plugin.name} cannot be loaded: {_place(cause, plugin)}: {type(cause).__name__}: {cause}",
        expected="a package that imports without an error",
        fix="mend that line, or take the folder out of the plugin folder",
    )


def _place(cause: Exception, plugin: Path) -> str:
    """File and line of the innermost frame inside the plugin, or of the syntax error."""
    if isinstance(cause, SyntaxError) and cause.filename:
        return f"{cause.filename}:{cause.lineno}"
    frames = traceback.extract_tb(cause.__traceback__)
    inside = [frame for frame in frames if Path(frame.filename).is_relative_to(plugin)]
    return f"{inside[-1].filename}:{inside[-1].lineno}" if inside else str(plugin / "__init__.py")
