"""One input: whether its reader answers as it should, in time and within memory."""

import contextlib
import io
import shutil
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.fuzz.targets import Target
from threestudio.errors import is_user_error, one_line

MAX_SECONDS, MAX_GROWTH, MAX_LINE = 5.0, 1 << 30, 2000
MAX_WAIT = 60.0
"""Seconds that may pass while a reader computes less than ``MAX_SECONDS``: it waits, or others use the processor."""


class TooLongError(BaseException):
    """A reader took more time than it may."""


def trial(target: Target, data: bytes, folder: Path) -> str | None:
    """What is wrong with how a reader answers to an input; None if it is right.

    Args:
        target: The format.
        data: The input.
        folder: Where it is written; empty before and afterwards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / target.file
    path.write_bytes(data)
    before = _peak(reset=True)
    problem = None
    try:
        with _at_most(MAX_SECONDS, MAX_WAIT), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            target.read(path)
    except TooLongError:
        problem = f"took more than {MAX_SECONDS:.0f} s"
    except Exception as error:  # noqa: BLE001  # whatever is raised is judged
        if not is_user_error(error):
            problem = f"{type(error).__name__}: {str(error)[:200]}{_place(error)}"
        elif len(one_line(error)) > MAX_LINE:
            problem = f"a line of {len(one_line(error))} characters"
    growth = _peak() - before
    if problem is None and growth > MAX_GROWTH:
        problem = f"grew by {growth / 1e9:.1f} GB"
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return problem


def _place(error: BaseException) -> str:
    """File and line of the last frame that is ours."""
    place, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "threestudio" in file and "site-packages" not in file:
            place = f" ({Path(file).name}:{trace.tb_lineno})"
        trace = trace.tb_next
    return place


@contextlib.contextmanager
def _at_most(seconds: float, wait: float) -> Iterator[None]:
    """Interrupt what computes for longer, or lasts longer than it may wait."""

    def stop(signum: int, frame: object) -> None:
        raise TooLongError

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, seconds), signal.SIGALRM: (signal.ITIMER_REAL, wait)}
    previous = {each: signal.signal(each, stop) for each in timers}
    for timer, limit in timers.values():
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for each, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(each, previous[each])


def _peak(*, reset: bool = False) -> int:
    """Most memory of this process, bytes, since it was last reset where the system can do that."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return psutil.Process().memory_info().rss
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
