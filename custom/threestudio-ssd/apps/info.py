"""Says what a splat file holds: ``launch.py --run info PATH``."""

import json
import sys
from dataclasses import dataclass

import threestudio
from threestudio.utils.base import Configurable

from ..errors import ConfigError
from ..report.scene_info import InfoConfig, as_text, read_info


@threestudio.register("app-info")
class Info(Configurable):
    """Say what a splat holds, --run info PATH: extents, up, keys to paste, and whether cameras=PATH fit."""

    needs_config = False
    positional = ("path",)

    @dataclass
    class Config(InfoConfig):
        """Keys of a look at a file."""

    cfg: Config

    def __call__(self, experiment: object) -> int:
        """Read the file and print its facts."""
        if not self.cfg.path:
            fix = "write --run info scene.ply"
            raise ConfigError(what="--run info was given no file", expected="the file of a splat", fix=fix)
        facts = read_info(self.cfg)
        sys.stdout.write(f"{json.dumps(facts, indent=1)}\n" if self.cfg.json else as_text(facts))
        return 0
