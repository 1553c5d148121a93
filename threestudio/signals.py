"""What asks a run to stop: Ctrl-C, and the signals of a scheduler, a closing terminal or ``kill``.

All of them mean the same. A step under way is finished, a checkpoint is written, the way to go on is said, and the exit
code is 128 and the signal's number, as shells have it. Requeueing a job is left to who submitted it.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from threestudio.errors import InterruptedRun

Handler = Callable[[int, FrameType | None], Any]
STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name))
"""Signals that stop a run: Ctrl-C; ``kill`` and most schedulers; a terminal that closes; Slurm's ``--signal=USR1``. The
last two are not there on Windows."""


def stop_at_once(signum: int, frame: FrameType | None) -> None:
    """A handler: there is nothing to finish.

    Raises:
        InterruptedRun: Always.
    """
    raise InterruptedRun(signum=signum)


def take_over(handler: Handler) -> dict[signal.Signals, Any]:
    """Have a handler called for all of ``STOPS``; only the main thread may, elsewhere nothing changes.

    A hang-up that is ignored stays ignored: that is what ``nohup`` asks for.

    Args:
        handler: Called with the signal's number and a frame.

    Returns:
        Who had them before, for ``give_back``.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    taken = [stop for stop in STOPS if not (stop.name == "SIGHUP" and signal.getsignal(stop) == signal.SIG_IGN)]
    return {stop: signal.signal(stop, handler) for stop in taken}


def give_back(previous: dict[signal.Signals, Any]) -> None:
    """Undo ``take_over``; a handler that was not set from Python cannot be set again, and the usual one is."""
    for stop, handler in previous.items():
        signal.signal(stop, signal.SIG_DFL if handler is None else handler)


@contextmanager
def stopping(handler: Handler = stop_at_once) -> Iterator[None]:
    """Inside this block the signals of ``STOPS`` are a handler's."""
    previous = take_over(handler)
    try:
        yield
    finally:
        give_back(previous)
