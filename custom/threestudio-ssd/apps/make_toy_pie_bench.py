"""``--run make-toy-pie-bench``: a folder of toy images for ``--run pie-bench``."""

from dataclasses import dataclass
from pathlib import Path

import threestudio
from threestudio.utils.base import Configurable


@threestudio.register("app-make-toy-pie-bench")
class MakeToyPieBench(Configurable):
    """Write toy pictures in the folder layout of PIE-Bench, all ten groups; --run pie-bench reads it."""

    needs_config = False

    @dataclass
    class Config:
        """Keys of the folder."""

        out: str = "outputs/toy-pie-bench"
        """Where it goes."""
        render_size: int = 512
        """Side at which scenes are rendered, pixels."""
        scene_seed: int = 3
        """Of the toy scenes."""

    cfg: Config

    def __call__(self, experiment: object) -> int:
        """Write it."""
        from ..benchmarks.pie.toy import TOY_ENTRIES, write_toy_pie_bench

        write_toy_pie_bench(Path(self.cfg.out), self.cfg.render_size, self.cfg.scene_seed)
        threestudio.info(f"{len(TOY_ENTRIES)} pictures are in {self.cfg.out}.")
        return 0
