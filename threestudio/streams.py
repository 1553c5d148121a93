"""Standard output and standard error that may go away: a run does not end because nobody reads it any more."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class LastingStream:
    """A text stream whose reader may leave (``| head -1``), or whose disk may be full: what follows is then dropped.

    Args:
        stream: Standard output or standard error, or what stands in for it.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, if it can still be written; returns its length."""
        try:
            self._stream.write(text)
        except OSError:
            self._drop()
        return len(text)

    def flush(self) -> None:
        """Hand over what was written so far."""
        try:
            self._stream.flush()
        except OSError:
            self._drop()

    def _drop(self) -> None:
        """Send all that follows, and what the stream still holds, nowhere: the interpreter flushes it at its end."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Inside this block, standard output and standard error can be closed by their readers."""
    before = sys.stdout, sys.stderr
    nowhere = [open(os.devnull, "w", encoding="utf-8") for stream in before if stream is None]  # as >&- leaves it
    spare = iter(nowhere)
    sys.stdout, sys.stderr = (LastingStream(next(spare) if stream is None else stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
        for stream in nowhere:
            stream.close()
