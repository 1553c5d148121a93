"""``--run reproduce-table2``: the paper's table of 2D edits, by every method, on PIE-Bench or its toy twin."""

import sys
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

import threestudio
from threestudio.utils.base import Configurable


@threestudio.register("app-reproduce-table2")
class ReproduceTable2(Configurable):
    """Run the paper's table of 2D edits: ten rows and more on PIE-Bench; goes on where it was stopped."""

    needs_config = False
    usual_config = "configs/tables/table2.yaml"
    is_resumable = True

    @dataclass
    class Config:
        """Keys of the run; those of the table are the words at the top of its config."""

        out: str = "outputs/table2"
        """Where edited pictures, rows, table and sheets go."""

    cfg: Config

    def __call__(self, experiment: DictConfig) -> int:
        """Make what is missing, and print the table."""
        from ..benchmarks.pie.table import run_picture_table

        sys.stdout.write(run_picture_table(Path(self.cfg.out), experiment))
        return 0
