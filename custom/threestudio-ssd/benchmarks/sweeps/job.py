"""One trial as a job: a run of launch.py in a process of its own, and the file that says how far it is.

Whoever runs jobs, here or on another machine, calls ``make_job``; whoever watches them reads ``state_of``. The two
share nothing but the trial's folder.
"""

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...early import repository
from ...files import write_json

STATE, LOG = "trial.json", "log.txt"
"""Files in the folder of a trial."""
NO_RESULT, STOPPED = 3, (130, 143)
"""Exit codes of launch.py: there is nothing to use; Ctrl-C or SIGTERM stopped it."""
STEPS_DONE = re.compile(rb"(?:train|items):[^\r\n]*?(\d+)/(\d+) \[")
"""What a progress bar of a run, or of a benchmark's items, prints."""
_KILL_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux."""
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True)
class Job:
    """What makes one trial.

    Attributes:
        name: Of the trial.
        folder: Where its state and its log go.
        command: Words for launch.py.
        made_with: Everything its result depends on, see ``fingerprint``.
        num_steps: Steps it makes, for guessing how long; 0: unknown.
        system: Registered name of what it edits with.
        launcher: The program.
    """

    name: str
    folder: Path
    command: tuple[str, ...]
    made_with: Mapping[str, str] = field(default_factory=dict)
    num_steps: int = 0
    system: str = ""
    launcher: Path = field(default_factory=lambda: program())


def program() -> Path:
    """What starts a run: ``launch.py`` of a checkout, the script of an install."""
    launcher = repository() / "launch.py"
    return launcher if launcher.is_file() else Path(sys.executable).with_name("ssd-edit")


@dataclass(frozen=True)
class State:
    """How far a trial is.

    Attributes:
        status: waiting, running, done, no result, failed, or stopped.
        seconds: It took, or takes since it was begun.
        share: Of its steps, done; in [0, 1].
        error: One line.
    """

    status: str = "waiting"
    seconds: float = 0.0
    share: float = 0.0
    error: str = ""

    @property
    def is_final(self) -> bool:
        """Whether a sweep that is started again leaves it as it is."""
        return self.status in ("done", "no result")


def kept_settings(job: Job) -> Mapping[str, str] | None:
    """What the trial in the job's folder was made with; None where there is none."""
    return _read(job).get("settings")


def state_of(job: Job) -> State:
    """How far a trial is, by its folder."""
    kept = _read(job)
    if "begun" not in kept:
        return State()
    code = kept.get("exit_code")
    if code is None:
        return State("running", time.time() - kept["begun"], _share(job.folder / LOG))
    status = {0: "done", NO_RESULT: "no result", **dict.fromkeys(STOPPED, "stopped")}.get(code, "failed")
    return State(status, kept["seconds"], 1.0, kept["error"])


def make_job(job: Job, more_words: Sequence[str] = (), variables: Mapping[str, str] | None = None) -> None:
    """Run a trial to its end, unless it is there; one that was stopped goes on from its checkpoint.

    The process dies with the one that started it, on Linux even where that is killed: a trial that is then begun
    anew never has a second writer in its folder.

    Args:
        job: The trial.
        more_words: For launch.py, beside the job's.
        variables: Of the environment, beside those there are.
    """
    if state_of(job).is_final:
        return
    begun = {"settings": dict(job.made_with), "begun": time.time(), "command": list(job.command)}
    write_json(job.folder / STATE, begun)
    with (job.folder / LOG).open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  # our own launch.py
            [sys.executable, str(job.launcher), *job.command, *more_words],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, **(variables or {})}, preexec_fn=_die_with_parent if _libc else None,
        )  # fmt: skip
        _running.add(process)
        code = process.wait()
        _running.discard(process)
    seconds = round(time.time() - begun["begun"], 2)
    write_json(job.folder / STATE, {**begun, "exit_code": code, "seconds": seconds, "error": _error(job, code)})


def put_in_line(job: Job) -> None:
    """Say that a trial waits to be made, or made again."""
    write_json(job.folder / STATE, {"settings": dict(job.made_with)})


def give_up(job: Job, error: str) -> None:
    """Say of a trial that whoever should run it could not."""
    begun = {"settings": dict(job.made_with), "begun": time.time(), "command": list(job.command)}
    write_json(job.folder / STATE, {**begun, "exit_code": 1, "seconds": 0.0, "error": error})


def stop_all() -> None:
    """Stop every trial that this process runs: each finishes its step and writes a checkpoint."""
    for process in list(_running):
        process.terminate()  # Ctrl-C may be ignored by what a shell started in the background


_running: set[subprocess.Popen] = set()


def _die_with_parent() -> None:
    """Called in the new process before its program starts."""
    if _libc is not None:
        _libc.prctl(_KILL_WITH_PARENT, signal.SIGKILL)


def _read(job: Job) -> dict[str, Any]:
    file = job.folder / STATE
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _tail(log: Path, count: int = 4000) -> bytes:
    if not log.is_file():
        return b""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - count))
        return file.read()


def _share(log: Path) -> float:
    """Share of the steps that the last line of a progress bar says are done."""
    counts = STEPS_DONE.findall(_tail(log))
    done, total = counts[-1] if counts else (0, 0)
    return min(1.0, int(done) / int(total)) if int(total) else 0.0


def _error(job: Job, code: int) -> str:
    """The line that says why a trial has no result: its error, or for one without a usable result its last warning."""
    if code == 0:
        return ""
    lines = [line.strip() for line in _tail(job.folder / LOG).decode(errors="replace").splitlines() if line.strip()]
    if code == NO_RESULT:
        lines = [line.partition(" W ")[2] for line in lines if " W " in line]
    if code < 0:
        return f"killed by signal {-code}; the log is {job.folder / LOG}"
    return lines[-1] if lines else f"exit code {code}; the log is {job.folder / LOG}"
