"""The exceptions a user reads: what is wrong, what was expected, the one thing to do.

``launch.py`` prints any exception that carries the text attributes ``what``, ``expected`` and ``fix`` as one line
and exits with code 2; everything else is a bug of ours and keeps its traceback.
"""

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
    """A config file, key or value, or a name that nothing is registered under."""


class PluginError(InputError):
    """A plugin folder that cannot be loaded; the cause is chained."""


class CheckpointError(InputError):
    """A checkpoint that is missing, broken, or belongs to another config."""


class MissingPackageError(InputError):
    """An optional package: feature, package, install line."""


class InterruptedRun(BaseException):
    """The user pressed Ctrl-C; not an ``Exception``, so that nothing mistakes it for a failure.

    Args:
        checkpoint: The checkpoint written on the way out, or None when there was nothing to save.
        is_kept: Whether the same command goes on from where it was stopped.
    """

    def __init__(self, checkpoint: str | None = None, *, is_kept: bool = False) -> None:
        self.checkpoint, self.is_kept = checkpoint, is_kept
        super().__init__("interrupted")


def _rebuild(cls: type[InputError], what: str, expected: str, fix: str) -> InputError:
    return cls(what=what, expected=expected, fix=fix)


def is_user_error(error: BaseException) -> bool:
    """Whether an exception is meant for the user: it carries the texts ``what``, ``expected`` and ``fix``."""
    return all(isinstance(getattr(error, name, None), str) for name in ("what", "expected", "fix"))


def first_line(error: BaseException) -> str:
    """The first line of an error's text that is not blank, or the kind of the error where it has no text."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


LONGEST_PART = 600
"""Characters of each part of a message that are said."""


def one_line(error: Any) -> str:
    """The line a user reads for an exception of :func:`is_user_error`.

    Line breaks inside become spaces, what a terminal would obey becomes ``?``, and long parts lose their middle.
    """
    what, expected, fix = (_plain(text) for text in (error.what, error.expected, error.fix))
    return f"error: {what}; expected {expected}; {fix}"


def _plain(text: str) -> str:
    text = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))
    half = LONGEST_PART // 2
    return text if len(text) <= LONGEST_PART else f"{text[:half]} ... {text[-half:]}"
