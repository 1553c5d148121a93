"""A thread for what takes longer than a click: of several things that are wanted one after the other, the last."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager


class Latest:
    """Does what it was last asked for; what was asked for before and has not begun is forgotten.

    Args:
        around: Entered around everything that is done.
    """

    def __init__(self, around: Callable[[], AbstractContextManager]) -> None:
        self._around, self._job, self._is_busy = around, None, False
        self._changed = threading.Condition()

    def __call__(self, job: Callable[[], object]) -> None:
        """Ask for something; returns at once."""
        with self._changed:
            self._job = job
            if not self._is_busy:
                self._is_busy = True
                threading.Thread(target=self._work, daemon=True).start()

    def wait(self, seconds: float = 60.0) -> bool:
        """Until nothing is left to do; whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._is_busy, seconds)

    def _work(self) -> None:
        try:
            while (job := self._next()) is not None:
                with self._around():
                    job()
        finally:
            with self._changed:
                self._is_busy = False
                self._changed.notify_all()

    def _next(self) -> Callable[[], object] | None:
        with self._changed:
            job, self._job = self._job, None
            self._is_busy = job is not None
            return job
