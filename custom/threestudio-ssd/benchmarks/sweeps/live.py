"""How far a sweep is: a table that is drawn again and again on a terminal, a line for each change elsewhere."""

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

import threestudio

from .job import Job, State, state_of

Figures = Callable[[Job], Mapping[str, Any]]
"""What a trial's report says, by the name of the column."""
MARKS = {"done": "green", "failed": "red", "no result": "red", "stopped": "yellow", "running": "cyan", "waiting": "dim"}


class Progress:
    """Watches trials; use it as a context, and call it to look.

    Args:
        jobs: All trials of the table.
        figures: Reads a trial's figures.
        workers: Trials at a time.
    """

    def __init__(self, jobs: Sequence[Job], figures: Figures, workers: int) -> None:
        self.jobs, self.figures, self.workers = list(jobs), figures, workers
        self._told: dict[str, str] = {}
        self._live = Live(console=Console(), auto_refresh=False) if sys.stdout.isatty() else None

    def __enter__(self) -> "Progress":
        if self._live is not None:
            self._live.start()
        self._told = {job.name: state_of(job).status for job in self.jobs}
        return self

    def __exit__(self, *error: object) -> None:
        self()
        if self._live is not None:
            self._live.stop()

    def __call__(self) -> None:
        """Look at every trial, and show what changed."""
        states = [state_of(job) for job in self.jobs]
        if self._live is not None:
            self._live.update(self._table(states), refresh=True)
            return
        for job, state in zip(self.jobs, states, strict=True):
            if self._told.get(job.name) != state.status:
                self._told[job.name] = state.status
                threestudio.info(f"{self._title(states)}: {job.name}: {self._words(job, state)}")

    def _title(self, states: Sequence[State]) -> str:
        done = sum(state.status not in ("waiting", "running", "stopped") for state in states)
        left = seconds_left(states, self.workers)
        return f"{done} of {len(states)}" + (f", {in_words(left)} left" if left else "")

    def _words(self, job: Job, state: State) -> str:
        figures = ", ".join(f"{name} {as_cell(value)}" for name, value in self.figures(job).items())
        took = f" in {in_words(state.seconds)}" if state.seconds and state.status != "running" else ""
        return f"{state.status}{took}" + (f": {state.error or figures}" if state.error or figures else "")

    def _table(self, states: Sequence[State]) -> Table:
        rows = [self.figures(job) for job in self.jobs]
        names = list(dict.fromkeys(name for row in rows for name in row))
        table = Table(title=f"sweep: {self._title(states)}")
        for head in ("trial", "status", "time", *names):
            table.add_column(head, justify="left" if head in ("trial", "status") else "right")
        for job, state, row in zip(self.jobs, states, rows, strict=True):
            status = f"{state.share:.0%}" if state.status == "running" else state.status
            name = escape(job.name) + (f"\n[red]{escape(state.error)}[/]" if state.error else "")
            cells = [name, f"[{MARKS[state.status]}]{status}[/]", in_words(state.seconds) if state.seconds else ""]
            table.add_row(*cells, *(as_cell(row.get(name)) for name in names))
        return table


def seconds_left(states: Sequence[State], workers: int) -> float | None:
    """Seconds until all trials are made, if those to come take as long as those there are; None: nobody knows yet."""
    took = [state.seconds for state in states if state.status == "done"]
    took += [state.seconds / state.share for state in states if state.status == "running" and state.share > 0]
    if not took:
        return None
    each = statistics.mean(took)
    waiting = sum(state.status == "waiting" for state in states) * each
    running = [max(0.0, each - state.seconds) for state in states if state.status == "running"]
    return max((waiting + sum(running)) / workers, *running, 0.0)


def as_cell(value: Any) -> str:
    """A figure with as many digits as say something."""
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def in_words(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
