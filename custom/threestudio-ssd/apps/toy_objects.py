"""Takes objects out of toy scenes, or puts them in, and judges the result by the scene the world would have made."""

from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig

import threestudio
from threestudio.utils.base import Configurable

from ..benchmarks.objects import KINDS, run_toy_objects
from ..errors import ConfigError

SCENES = ("red plain ball grass day", "green plain car sand day", "blue plain house snow day")


@threestudio.register("app-toy-objects")
class ToyObjects(Configurable):
    """Remove or add objects of toy scenes and judge the result; needs --config of delete-gs or add-gs."""

    @dataclass
    class Config:
        """Keys of the comparison."""

        scenes: list[str] = field(default_factory=lambda: list(SCENES))
        """Object scenes, each as colour, pattern, object, ground, time of day."""
        scene_seed: int = 3
        """Seed of the toy scenes."""
        out: str = "outputs/toy-objects"
        """Where scenes, pictures and the table go."""

    def __call__(self, experiment: DictConfig) -> int:
        """Run every scene that has no result yet."""
        kind = KINDS.get(experiment.system_type)
        if kind is None:
            raise ConfigError(
                what=f"--run toy-objects was given system_type {experiment.system_type}",
                expected="an experiment that removes or adds an object",
                fix="use --config configs/delete-gs.yaml or configs/add-gs.yaml",
            )
        table = run_toy_objects(kind, self.cfg.scenes, experiment, Path(self.cfg.out), self.cfg.scene_seed)
        threestudio.info(f"{kind}\n{table}")
        return 0
