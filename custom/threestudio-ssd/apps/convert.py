"""Turns a splat file into another format: ``launch.py --run convert IN OUT``."""

from dataclasses import dataclass
from pathlib import Path

import threestudio
from threestudio.utils.base import Configurable

from ..errors import ConfigError
from ..gaussians import Gaussians, half_turn_x, load_gaussians, morton_order, save_gaussians


@threestudio.register("app-convert")
class Convert(Configurable):
    """Convert a splat file: --run convert IN OUT; the suffixes decide the formats."""

    needs_config = False
    positional = ("src", "dst")

    @dataclass
    class Config:
        """Keys of a conversion."""

        src: str = ""
        """The splat to read: .ply, .compressed.ply, .splat, .spz, .sog, .ksplat, .pt, .pth, .ckpt."""
        dst: str = ""
        """The splat to write: .ply, .compressed.ply, .splat, .spz, .sog."""
        half_turn: bool = False
        """Turn the scene half a turn about x (y and z negated): for SPZ files written in that format's own frame."""

    def __call__(self, experiment: object) -> int:
        """Read, write, and say what was written."""
        missing = [key for key in self.positional if not getattr(self.cfg, key)]
        if missing:
            raise ConfigError(
                what=f"--run convert was given no {' and no '.join(missing)}",
                expected="the file to read and the file to write",
                fix="launch.py --run convert scene.ply scene.spz",
            )
        gaussians = convert(self.cfg.src, self.cfg.dst, half_turn=self.cfg.half_turn)
        size = Path(self.cfg.dst).stat().st_size / 1e6
        threestudio.info(f"{self.cfg.dst}: {len(gaussians)} Gaussians, SH degree {gaussians.sh_degree}, {size:.1f} MB")
        return 0


def convert(src: str | Path, dst: str | Path, *, half_turn: bool = False) -> Gaussians:
    """Read one splat file and write another; the suffixes decide.

    The order of the Gaussians stays, except in a ``.compressed.ply`` made from another format: neighbours share bounds
    there, so they are put next to each other. What the new format cannot hold is named in a warning.

    Args:
        src: The file to read.
        dst: The file to write.
        half_turn: Whether to negate y and z.

    Returns:
        The Gaussians as they were written from.

    Raises:
        SceneFormatError: If a file or suffix cannot be used.
    """
    gaussians = load_gaussians(src)
    if half_turn:
        gaussians = half_turn_x(gaussians)
    was_compressed = gaussians.source is not None and gaussians.source.format == "compressed.ply"
    if str(dst).lower().endswith(".compressed.ply") and not was_compressed:
        gaussians = gaussians.select(morton_order(gaussians.means))
    save_gaussians(gaussians, dst)
    return gaussians
