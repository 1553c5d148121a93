"""The exceptions a user reads: what is wrong, what was expected, the one thing to do.

The host prints any exception that carries ``what``, ``expected`` and ``fix`` as one line and exits with code 2.
"""


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


class MissingPackageError(InputError):
    """An optional package: feature, package, install line."""


def _rebuild(cls: type[InputError], what: str, expected: str, fix: str) -> InputError:
    return cls(what=what, expected=expected, fix=fix)
