"""Names for classes: ``register`` puts one in, ``find`` gets it back or says what was meant.

Systems, data modules, guidance and apps are all named in configs and on the command line by these names.
"""

import difflib
from collections.abc import Callable, Iterable
from typing import TypeVar

from threestudio.errors import ConfigError

T = TypeVar("T")

__modules__: dict[str, object] = {}


def register(name: str) -> Callable[[T], T]:
    """Make a class or function known under ``name``; use as a decorator.

    Raises:
        ValueError: If another object holds the name. The same definition, imported again, replaces itself.
    """

    def decorator(obj: T) -> T:
        held = __modules__.get(name)
        if held is not None and _origin(held) != _origin(obj):
            raise ValueError(f"{name!r} is registered twice: by {_origin(held)} and by {_origin(obj)}")
        __modules__[name] = obj
        return obj

    return decorator


def find(name: str):
    """The object registered under ``name``.

    ``"main:sub"`` and ``"main:sub,other"`` give a new class in which ``sub`` and ``other`` override ``main``.

    Raises:
        ConfigError: If nothing holds the name; carries the nearest names.
    """
    if ":" not in name:
        return _find_one(name)
    main_name, _, sub_names = name.partition(":")
    bases = [_find_one(part) for part in (*sub_names.split(","), main_name)]
    return type(name.replace(":", "."), tuple(bases), {})


def registered_names(prefix: str = "") -> list[str]:
    """Every registered name that starts with ``prefix``, sorted."""
    return sorted(name for name in __modules__ if name.startswith(prefix))


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The known word nearest to a misspelt one, or None when none is near."""
    near = difflib.get_close_matches(str(name), [str(word) for word in known], n=1, cutoff=0.6)
    return near[0] if near else None


def _find_one(name: str):
    if name in __modules__:
        return __modules__[name]
    near = did_you_mean(name, __modules__)
    names = ", ".join(registered_names()) or "nothing: load the plugins first, threestudio.load_plugins()"
    raise ConfigError(
        what=f"nothing is registered under {name!r}",
        expected=f"one of: {names}",
        fix=f"did you mean {near!r}?" if near else "use one of these names",
    )


def _origin(obj: object) -> str:
    return f"{getattr(obj, '__module__', '?')}.{getattr(obj, '__qualname__', repr(obj))}"
