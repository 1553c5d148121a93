"""Names for classes: ``register`` puts one in, ``find`` gets it back or says what was meant.

Systems, data modules, guidance and apps are all named in configs and on the command line by these names. A plugin
that says with ``register_places`` where its names live is imported piece by piece, as they are asked for.
"""

import difflib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeVar

from threestudio.errors import ConfigError, PluginError

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Where a registered name is defined, before anything there is imported.

    Attributes:
        package: The plugin's package.
        target: ``module:attribute`` below it.
        config: ``module:attribute`` of its keys' dataclass, where that can be had without the class; else None.
    """

    package: str
    target: str
    config: str | None = None

    @property
    def origin(self) -> str:
        """Full name of the module that defines the object, and the object's, joined by a dot."""
        return f"{self.package}.{self.target.replace(':', '.')}"

    def load(self, what: str) -> Any:
        """Import ``target`` or ``config``.

        Raises:
            PluginError: If the module cannot be imported or holds no such attribute; names the file and line.
        """
        from threestudio.plugins import import_part

        module, _, attribute = what.partition(":")
        return import_part(f"{self.package}.{module}", attrgetter(attribute))


__modules__: dict[str, Any] = {}
"""Registered name -> the object, or its ``Place`` for as long as nobody asked for it."""
EARLY_CHECKS: dict[str, Callable[[Mapping], None]] = {}
"""What plugins check in a config before anything heavy is imported, by the function's full name."""
FILE_KEYS: set[str] = set()
"""Keys, by the last part of their path, whose values name files: they may lie beside the config."""


def register_file_keys(names: Iterable[str]) -> None:
    """Say that keys of these names, wherever they stand in a config, name files or folders that are read."""
    FILE_KEYS.update(names)


def register(name: str) -> Callable[[T], T]:
    """Make a class or function known under ``name``; use as a decorator.

    Raises:
        PluginError: If another object holds the name; names the files of both. The same definition, imported again,
            replaces itself.
    """

    def decorator(obj: T) -> T:
        _check_free(name, obj)
        __modules__[name] = obj
        return obj

    return decorator


def register_places(package: str, places: Mapping[str, str | tuple[str, str]]) -> None:
    """Make names known without importing what they name.

    Args:
        package: The plugin's package, ``__name__`` of its ``__init__.py``.
        places: Registered name -> ``"module:attribute"`` below the package, or a pair of that and of the place of its
            dataclass of keys, so that keys are checked without importing the class. The class still carries
            ``@register(name)``.

    Raises:
        PluginError: If another object holds one of the names; names the files of both.
    """
    for name, places_of_name in places.items():
        target, config = (places_of_name, None) if isinstance(places_of_name, str) else places_of_name
        place = Place(package, target, config)
        _check_free(name, place)
        __modules__.setdefault(name, place)


def register_early_check(check: Callable[[Mapping], None]) -> Callable[[Mapping], None]:
    """Have ``launch.py`` call a function with the resolved config, as plain values, before anything heavy is imported.

    It raises what the user should read, for example about a file that does not exist. Keys are not checked yet. Beside
    the config's own there is ``looked_in``, the folders in which files were looked for as well.
    """
    EARLY_CHECKS[_origin(check)] = check
    return check


def find(name: str) -> Any:
    """The object registered under ``name``; its module is imported now if it was not before.

    ``"main:sub"`` and ``"main:sub,other"`` give a new class in which ``sub`` and ``other`` override ``main``.

    Raises:
        ConfigError: If nothing holds the name; carries the nearest names.
        PluginError: If the module that defines it cannot be imported.
    """
    if ":" not in name:
        return _find_one(name)
    main_name, _, sub_names = name.partition(":")
    bases = [_find_one(part) for part in (*sub_names.split(","), main_name)]
    return type(name.replace(":", "."), tuple(bases), {})


def place_of(name: str) -> Place | None:
    """Where ``name`` is defined, if it has a place and nobody asked for it yet."""
    held = __modules__.get(name)
    return held if isinstance(held, Place) else None


def registered_names(prefix: str = "") -> list[str]:
    """Every registered name that starts with ``prefix``, sorted."""
    return sorted(name for name in __modules__ if name.startswith(prefix))


def did_you_mean(name: str, words: Iterable[str]) -> str | None:
    """The known word nearest to a misspelt one, or None when none is near."""
    near = difflib.get_close_matches(str(name), [str(word) for word in words], n=1, cutoff=0.6)
    return near[0] if near else None


def _find_one(name: str) -> Any:
    if name in __modules__:
        held = __modules__[name]
        if isinstance(held, Place):
            held = __modules__[name] = held.load(held.target)
        return held
    near = did_you_mean(name, __modules__)
    names = ", ".join(registered_names()) or "nothing: load the plugins first, threestudio.load_plugins()"
    expected, fix = f"one of: {names}", f"did you mean {near!r}?" if near else "use one of these names"
    raise ConfigError(what=f"nothing is registered under {name!r}", expected=expected, fix=fix)


def _check_free(name: str, obj: object) -> None:
    """Refuse a name that something else holds; which of the two is too many depends on what was loaded first."""
    held = __modules__.get(name, obj)
    if _origin(held) != _origin(obj):
        raise PluginError(
            what=f"{name!r} is registered twice: by {_origin(held)}{_file(held)} and by {_origin(obj)}{_file(obj)}",
            expected="one object for each name",
            fix="choose another name in the file of yours",
        )


def _file(obj: object) -> str:
    """The file that registers an object, in brackets, where it is known."""
    module = obj.package if isinstance(obj, Place) else getattr(obj, "__module__", "")
    file = getattr(sys.modules.get(module), "__file__", None)
    return f" ({file})" if file else ""


def _origin(obj: object) -> str:
    if isinstance(obj, Place):
        return obj.origin
    return f"{getattr(obj, '__module__', '?')}.{getattr(obj, '__qualname__', repr(obj))}"
