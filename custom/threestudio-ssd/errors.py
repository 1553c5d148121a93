"""The exceptions a user reads: what is wrong, what was expected, the one thing to do.

The host prints any exception that carries ``what``, ``expected`` and ``fix`` as one line and exits with code 2.
"""

from collections.abc import Mapping
from typing import Any


class InputError(ValueError):
    """Something the user gave cannot be used.

    Args:
        what: What is wrong, with the key or file and the value found.
        expected: What would have been accepted.
        fix: The one thing to do.
    """

    def __init__(self, *, what: str, expected: str, fix: str) -> None:
        self.what, self.expected, self.fix = what, expected, fix
        super().__init__(f"{what}; expected {expected}; {fix}")

    def __reduce__(self):
        return _rebuild, (type(self), self.what, self.expected, self.fix)


class ConfigError(InputError):
    """A config key or value."""


class SceneFormatError(InputError):
    """A splat, camera, picture or model file: path, format, what stood there instead."""


class CheckpointError(InputError):
    """A checkpoint of another edit."""


class StorageError(ConfigError):
    """A place that cannot be written: full, read-only, or not there."""


class MissingPackageError(InputError):
    """An optional package: feature, package, install line."""


def check_values(prefix: str, cfg: Any, defaults: Any, rules: Mapping[str, tuple[bool, str]]) -> None:
    """Refuse a number out of range, and name the default to go back to.

    Args:
        prefix: Where the keys stand, such as "system.growth".
        cfg: Holds the values, by attribute.
        defaults: Holds the defaults, by attribute.
        rules: Name -> whether the value is right, and what was expected.

    Raises:
        ConfigError: For the first rule that is broken.
    """
    for name, (is_right, expected) in rules.items():
        if not is_right:
            key, default = f"{prefix}.{name}", str(getattr(defaults, name)).replace(" ", "").replace("None", "null")
            raise ConfigError(what=f"{key} is {getattr(cfg, name)}", expected=expected, fix=f"set {key}={default}")


def check_least(prefix: str, cfg: Any, defaults: Any, least: Mapping[str, float]) -> None:
    """``check_values`` of numbers that must not be below a bound, by name.

    Raises:
        ConfigError: For the first that is.
    """
    rules = {name: (getattr(cfg, name) >= value, f"at least {value}") for name, value in least.items()}
    check_values(prefix, cfg, defaults, rules)


def first_line(error: BaseException) -> str:
    """The first line of an error's text that is not blank, shortened, for a message of one line.

    A library may raise without any text: then it says so, with the kind of the error.
    """
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line if len(line) <= 160 else line[:157] + "..."


def _rebuild(cls: type[InputError], what: str, expected: str, fix: str) -> InputError:
    return cls(what=what, expected=expected, fix=fix)
