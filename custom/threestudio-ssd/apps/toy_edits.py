"""The app that runs toy edits, whose outcome is known, with any config of an edit, and judges the results."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig

import threestudio
from threestudio.utils.base import Configurable

from ..errors import check_least
from ..toyworld.edits import EDITS


@threestudio.register("app-toy-edits")
class ToyEdits(Configurable):
    """Run edits whose outcome is known and judge them; needs --config of the edit."""

    is_resumable = True

    @dataclass
    class Config:
        """Keys of the comparison."""

        edits: list[str] = field(default_factory=lambda: list(EDITS))
        """Names of edits."""
        scene_seed: int = 3
        """Seed of the toy scenes."""
        num_seeds: int = 1
        """Toy scenes of each edit. Every one adds 1 to the seed of the scene; views and noise stay the same."""
        mask: Literal["auto", "object", "ground", "none"] = "auto"
        """What the masks show: ``object``, ``ground``, ``none`` for no mask, or ``auto``: the object where the edit is
        about it, else no mask."""
        out: str = "outputs/toy-edits"
        """Where scenes, pictures and ``edits.json`` go."""

    def __call__(self, experiment: DictConfig) -> int:
        """Run every edit that has no result yet."""
        from ..benchmarks.toy.single import run_toy_edits

        check_least("run", self.cfg, self.Config, {"num_seeds": 1})
        out = Path(self.cfg.out)
        table = run_toy_edits(
            list(self.cfg.edits), experiment, out, self.cfg.scene_seed, self.cfg.num_seeds, self.cfg.mask
        )
        threestudio.info(f"{out / 'edits.md'}\n{table}")
        return 0
