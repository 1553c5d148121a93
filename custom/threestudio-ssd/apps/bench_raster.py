"""``--run bench-raster``: how fast the CPU rasteriser is on this machine."""

from dataclasses import dataclass

import threestudio
from threestudio.utils.base import Configurable


@threestudio.register("app-bench-raster")
class BenchRaster(Configurable):
    """Time the CPU rasteriser and write a table and a JSON file."""

    needs_config = False

    @dataclass
    class Config:
        """Keys of the benchmark."""

        out: str = "outputs/bench-raster.json"
        """Where the numbers go."""
        yardstick: str = "../shared/bench/raster_yardstick.py"
        """A file with ``scene2d`` and ``yardstick`` to compare with; left out if there is none."""
        num_threads: int = 0
        """Threads; 0 is what torch uses."""
        repeats: int = 3
        """Runs of each case; the fastest counts."""
        max_gaussians: int = 1_000_000
        """Leaves out the larger cases."""
        many: bool = False
        """Also render ten million Gaussians at 1080p, which takes 4 GB."""
        grid: bool = False
        """Also time 10,000 to ten million Gaussians at 64 x 64 to 4K, with memory: minutes, and up to 16 GB."""
        memory: bool = False
        """Also measure peak memory at a million Gaussians, SH degree 3, 1080p."""

    cfg: Config

    def __call__(self, experiment: object) -> int:
        """Run every case, log the table, write the file."""
        from ..benchmarks.raster import bench_raster
        from ..files import write_json

        write_json(self.cfg.out, bench_raster(self.cfg))
        return 0
