"""The scene before the last edit: ``launch.py --run undo RESULT``."""

import sys
from dataclasses import dataclass

import threestudio
from threestudio.utils.base import Configurable

from ..errors import ConfigError


@threestudio.register("app-undo")
class Undo(Configurable):
    """Find the scene before the last edit: --run undo RESULT; out=FILE copies it."""

    needs_config = False
    positional = ("result",)

    @dataclass
    class Config:
        """Keys of the way back."""

        result: str = ""
        """What to undo: a run folder, or its splat with the history.json beside it."""
        out: str = ""
        """Where to copy the scene before it; empty: it stays where it is."""

    def __call__(self, experiment: object) -> int:
        """Say where the scene is; the last line is its path."""
        from ..report.history import undo
        from ..report.results import find_result

        if not self.cfg.result:
            expected, fix = "a run folder or a splat", "launch.py --run undo outputs/ssd-gs/RUN"
            raise ConfigError(what="--run undo was given no result", expected=expected, fix=fix)
        sys.stdout.write(f"{undo(find_result(self.cfg.result), self.cfg.out)}\n")
        return 0
