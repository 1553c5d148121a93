"""``--run reproduce-table1``: the paper's table of 3D edits, on captures in a folder of the user."""

import sys
from dataclasses import dataclass

from omegaconf import DictConfig

import threestudio
from threestudio.utils.base import Configurable


@threestudio.register("app-reproduce-table1")
class ReproduceTable1(Configurable):
    """Run the paper's table of 3D edits on your captures: data=FOLDER; goes on where it was stopped."""

    needs_config = False
    usual_config = "configs/tables/table1.yaml"
    is_resumable = True

    @dataclass
    class Config:
        """Keys of the run; those of the table are the words at the top of its config."""

        data: str = ""
        """Folder of the captures: DATASET/SCENE or SCENE, each with cameras, photographs and a trained splat."""
        splats: str = ""
        """Folder of the trained splats, laid out in the same way, where they are not beside the captures."""
        edited: str = ""
        """Folder of splats that other tools made, METHOD/EDIT.ply: each method gets a row as well."""
        out: str = "outputs/table1"
        """Where fits, edits, pictures and the table go."""

    cfg: Config

    def __call__(self, experiment: DictConfig) -> int:
        """Make what is missing, and print the table."""
        from ..benchmarks.tables.run import run_table

        sys.stdout.write(run_table(self.cfg, experiment))
        return 0
