"""``--run sweep``: one config, many settings of it; of one's own scene, or on toy edits whose truth is known."""

from dataclasses import dataclass, field
from typing import Any

import threestudio
from threestudio.apps import Words
from threestudio.utils.base import Configurable

from ..benchmarks.sweeps.keys import RunnerKeys, SweepKeys


@threestudio.register("app-sweep")
class Sweep(Configurable):
    """Try many settings of one config, each in a run of its own: sweep=FILE or sweep.grid.KEY=[...]; goes on."""

    takes_words = True
    is_resumable = True

    @dataclass
    class Config(RunnerKeys):
        """Keys of the sweep; docs/sweeps.md."""

        sweep: SweepKeys = field(default_factory=SweepKeys)
        """What varies; sweep=FILE reads these keys from a file."""
        out: str = ""
        """Folder of the trials; empty: outputs/NAME-sweep. Toy edits have theirs in system.out."""
        dry_run: bool = False
        """Only list the trials, and how long they may take."""
        only: str = ""
        """Of a sweep on toy edits: this cell alone, without a table."""

    cfg: Any

    def __call__(self, words: Words) -> int:
        """Make every trial that is not there; the exit code is 3 if one of them has no result."""
        from ..benchmarks.sweeps.run import sweep

        return sweep(words, self.cfg)
