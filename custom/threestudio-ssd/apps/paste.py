"""Puts an edited part back into a huge splat: ``launch.py --run paste SCENE PART EDITED out=...``."""

from dataclasses import dataclass

import threestudio
from threestudio.utils.base import Configurable

from ..errors import ConfigError


@threestudio.register("app-paste")
class Paste(Configurable):
    """Put an edit of a part back: --run paste city.ply part.ply outputs/ssd-gs/RUN out=edited-city.ply."""

    needs_config = False
    positional = ("scene", "part", "edited")

    @dataclass
    class Config:
        """Keys of a paste."""

        scene: str = ""
        """The splat that the part was cut out of."""
        part: str = ""
        """The part, with part.rows.npz beside it."""
        edited: str = ""
        """An edit of the part: a run folder, or its .ply."""
        out: str = "pasted.ply"
        """The .ply to write."""

    def __call__(self, experiment: object) -> int:
        """Read all three, write one; rows outside of the part keep their bytes."""
        from ..report.part import paste_part
        from ..report.results import find_result

        cfg = self.cfg
        missing = [name for name in self.positional if not getattr(cfg, name)]
        if missing:
            expected, fix = "the whole, its part, and an edit of that", "--run paste city.ply part.ply outputs/RUN"
            what = f"--run paste was given no {' and no '.join(missing)}"
            raise ConfigError(what=what, expected=expected, fix=fix)
        changed, gone, new = paste_part(cfg.scene, find_result(cfg.part), find_result(cfg.edited), cfg.out)
        threestudio.info(f"{cfg.out}: {changed:,} Gaussians changed, {gone:,} gone, {new:,} new")
        return 0
