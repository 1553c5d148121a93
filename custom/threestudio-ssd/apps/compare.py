"""Results side by side: ``launch.py --run compare A B C``."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import threestudio
from threestudio.utils.base import Configurable


@threestudio.register("app-compare")
class Compare(Configurable):
    """Show results side by side, in the same views: --run compare A B C; run folders or splats."""

    needs_config = False
    positional = ("results",)

    @dataclass
    class Config:
        """Keys of a comparison."""

        results: list[str] = field(default_factory=list)
        """Run folders or splats; the first one's config says the cameras, without one it is an orbit."""
        cameras: str = ""
        """Other cameras: a COLMAP folder, transforms.json, cameras.json."""
        views: int = 4
        """How many views, >= 1."""
        size: int = 256
        """Their shorter side, pixels, >= 16."""
        out: str = "outputs/compare"
        """Where ``compare.png`` and ``compare.html`` go."""

    def __call__(self, experiment: object) -> int:
        """Render, draw, and say where the page is."""
        from ..benchmarks.compare import compare

        cfg = self.cfg
        page = compare(list(cfg.results), Path(cfg.out), cameras=cfg.cameras, count=cfg.views, size=cfg.size)
        sys.stdout.write(f"{page}\n")
        return 0
