"""The exceptions a user reads: what is wrong, what was expected, the one thing to do.

``launch.py`` prints any exception that carries the text attributes ``what``, ``expected`` and ``fix`` as one line
and exits with code 2; everything else is a bug of ours and keeps its traceback.
"""

import errno
import re
import signal
from collections.abc import Iterator
from typing import Any

NO_STORAGE = frozenset({
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOENT,
    errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ESTALE,
})  # fmt: skip
"""Reasons of the system for which a file cannot be written: full, over a quota, read-only, not there."""

CUT_SHORT = re.compile(r"requested and \d+ written")
"""How NumPy says that a disk is full, without the system's reason."""


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


class StorageError(InputError):
    """A place that cannot be written: full, read-only, not there, or in use by another run."""


class OutOfMemory(InputError):
    """A run that needs more memory than there is, where everything smaller was tried."""


class InterruptedRun(BaseException):
    """The user pressed Ctrl-C, or a signal asked the run to stop; not an ``Exception``, so that nothing mistakes it for
    a failure.

    Args:
        checkpoint: The checkpoint to go on from, or None when there is none.
        is_kept: Whether the same command goes on from where it was stopped.
        signum: Number of the signal.
    """

    def __init__(self, checkpoint: str | None = None, *, is_kept: bool = False, signum: int = signal.SIGINT) -> None:
        self.checkpoint, self.is_kept, self.signum = checkpoint, is_kept, signum
        super().__init__("interrupted")


def _rebuild(cls: type[InputError], what: str, expected: str, fix: str) -> InputError:
    return cls(what=what, expected=expected, fix=fix)


def is_user_error(error: BaseException) -> bool:
    """Whether an exception is meant for the user: it carries the texts ``what``, ``expected`` and ``fix``."""
    return all(isinstance(getattr(error, name, None), str) for name in ("what", "expected", "fix"))


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it came of, and so on to the first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def storage_cause(error: BaseException) -> OSError | None:
    """What the system said of a place that cannot be written, if an error came of that; libraries wrap it."""
    failures = (each for each in chain_of(error) if isinstance(each, OSError))
    return next((each for each in failures if each.errno in NO_STORAGE or CUT_SHORT.search(str(each))), None)


def is_storage_error(error: BaseException) -> bool:
    """Whether an exception says that a place cannot be written, be it the host's, a plugin's or the system's own."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return StorageError.__name__ in kinds or storage_cause(error) is not None


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
