"""Turns a splat file into another format: ``launch.py --run convert SRC DST``."""

from dataclasses import dataclass
from pathlib import Path

import threestudio
from threestudio.utils.base import Configurable

from ..errors import ConfigError
from ..fields import is_field
from ..gaussians.io import convert_gaussians
from ..gaussians.io.losses import losses


@threestudio.register("app-convert")
class Convert(Configurable):
    """Convert a splat file: --run convert SRC DST; the suffixes decide the formats."""

    needs_config = False
    positional = ("src", "dst")

    @dataclass
    class Config:
        """Keys of a conversion."""

        src: str = ""
        """The splat to read: .ply, .compressed.ply, .splat, .spz, .sog, .ksplat, .glb, .usdz, .usdc, .usda, .usd, .pt,
        .pth, .ckpt; or the folder of a radiance field, to whose renders a splat is fitted."""
        dst: str = ""
        """The splat to write: .ply, .compressed.ply, .splat, .spz, .sog, .glb, .usdz, .usdc, .usda."""
        half_turn: bool = False
        """Turn the scene half a turn about x (y and z negated): for SPZ files written in that format's own frame."""

        spz_version: int | None = None
        """Version of an .spz that is written, 1 to 4; none: that of the .spz read, else 3."""

    def __call__(self, experiment: object) -> int:
        """Read, write, and say what was written."""
        missing = [key for key in self.positional if not getattr(self.cfg, key)]
        if missing:
            raise ConfigError(
                what=f"--run convert was given no {' and no '.join(missing)}",
                expected="the file to read and the file to write",
                fix="launch.py --run convert scene.ply scene.spz",
            )
        if self.cfg.spz_version not in (None, 1, 2, 3, 4):
            what, expected = f"spz_version is {self.cfg.spz_version}", "1, 2, 3 or 4"
            raise ConfigError(what=what, expected=expected, fix="set spz_version=4, or leave it out")
        keys = {"half_turn": self.cfg.half_turn, "spz_version": self.cfg.spz_version}
        if is_field(self.cfg.src):
            from ..edits.field_splat import convert_field  # a fit, with all that it needs

            gaussians = convert_field(self.cfg.src, self.cfg.dst, **keys)
        else:
            gaussians = convert_gaussians(self.cfg.src, self.cfg.dst, **keys)
            for loss in losses(gaussians, Path(self.cfg.src), Path(self.cfg.dst)):
                threestudio.info(f"{self.cfg.dst}: {loss}.")
        size = Path(self.cfg.dst).stat().st_size / 1e6
        threestudio.info(f"{self.cfg.dst}: {len(gaussians)} Gaussians, SH degree {gaussians.sh_degree}, {size:.1f} MB")
        return 0
