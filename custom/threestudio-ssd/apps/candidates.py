"""Several seeds of one edit, to choose from: ``launch.py --config X --run candidates n_candidates=4``."""

import sys
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

import threestudio
from threestudio.utils.base import Configurable

from ..errors import check_least


@threestudio.register("app-candidates")
class Candidates(Configurable):
    """Make an edit with several seeds and rank them; needs --config of the edit."""

    is_resumable = True

    @dataclass
    class Config:
        """Keys of the choice."""

        n_candidates: int = 4
        """How many seeds, >= 1, from the config's on."""
        out: str = ""
        """Where all goes; empty: beside the config's runs, in a folder without a time, so that it can go on."""

    cfg: Config

    def __call__(self, experiment: DictConfig) -> int:
        """Make those that are not there yet, and export the best."""
        from ..benchmarks.candidates import make_candidates

        check_least("run", self.cfg, self.Config, {"n_candidates": 1})
        name = experiment.trial_name.removesuffix(experiment.timestamp or "")
        out = Path(self.cfg.out or Path(experiment.exp_dir) / f"{name}-candidates")
        sys.stdout.write(f"{make_candidates(experiment, self.cfg.n_candidates, out)}\n")
        return 0
