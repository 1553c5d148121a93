"""Takes a part out of a huge splat: ``launch.py --run cut SCENE PART box=[...]``."""

from dataclasses import dataclass, field

import threestudio
from threestudio.utils.base import Configurable

from ..errors import ConfigError


@threestudio.register("app-cut")
class Cut(Configurable):
    """Write the part of a huge splat that lies in a box: --run cut city.ply part.ply box=[-2,-2,0,2,2,3]."""

    needs_config = False
    positional = ("scene", "part")

    @dataclass
    class Config:
        """Keys of a cut."""

        scene: str = ""
        """The splat: a binary .ply of any size."""
        part: str = "part.ply"
        """The .ply to write; part.rows.npz beside it says which rows it is."""
        box: list[float] = field(default_factory=list)
        """x_min y_min z_min x_max y_max z_max, world units: the object and what stands around it in the views."""

    def __call__(self, experiment: object) -> int:
        """Read the scene once, write the part."""
        from ..report.part import cut_part, rows_file

        cfg = self.cfg
        if not cfg.scene:
            expected, fix = "the file of a splat", "launch.py --run cut city.ply part.ply box=[-2,-2,0,2,2,3]"
            raise ConfigError(what="--run cut was given no scene", expected=expected, fix=fix)
        count, total = cut_part(cfg.scene, cfg.part, list(cfg.box))
        threestudio.info(f"{cfg.part}: {count:,} of {total:,} Gaussians; which ones is in {rows_file(cfg.part)}")
        return 0
