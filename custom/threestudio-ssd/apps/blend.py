"""Any amount between a scene and its edit: ``launch.py --run blend BEFORE AFTER amount=0.6``."""

from dataclasses import dataclass

import threestudio
from threestudio.utils.base import Configurable

from ..errors import ConfigError


@threestudio.register("app-blend")
class Blend(Configurable):
    """Write a splat between a scene and its edit: --run blend BEFORE AFTER amount=0.6 out=between.ply."""

    needs_config = False
    positional = ("before", "after")

    @dataclass
    class Config:
        """Keys of a blend."""

        before: str = ""
        """The scene: a splat, or the run folder of an earlier edit."""
        after: str = ""
        """An edit of it: a run folder or a splat."""
        amount: float = 0.5
        """How far to go from one to the other, in [0, 1]."""
        out: str = "blended.ply"
        """The splat to write; the suffix decides the format."""

    def __call__(self, experiment: object) -> int:
        """Read both, write one."""
        from ..report.blend import write_blend
        from ..report.results import find_result

        cfg = self.cfg
        if not (cfg.before and cfg.after):
            expected, fix = "the scene and its edit", "launch.py --run blend scene.ply outputs/ssd-gs/RUN amount=0.6"
            raise ConfigError(what="--run blend was not given two splats", expected=expected, fix=fix)
        threestudio.info(write_blend(find_result(cfg.before), find_result(cfg.after), cfg.amount, cfg.out))
        return 0
