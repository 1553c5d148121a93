"""``--run pie-bench``: PIE-Bench with the score or the editor of an image config."""

import sys
from dataclasses import dataclass, field

from omegaconf import DictConfig

import threestudio
from threestudio.utils.base import Configurable


@threestudio.register("app-pie-bench")
class PieBench(Configurable):
    """Run PIE-Bench with the score or editor of a picture config; prints the paper's Table 2 columns, and more."""

    is_resumable = True

    @dataclass
    class Config:
        """Keys of the benchmark."""

        dataset: str = "outputs/toy-pie-bench"
        """Folder with mapping_file.json and annotation_images/."""
        out: str = "outputs/pie-bench"
        """Where edited pictures, rows and table go; one folder for each setting."""
        edited: str = ""
        """Folder of pictures that another tool edited, same paths below it: they are measured, nothing is edited."""
        groups: list[int] = field(default_factory=lambda: list(range(10)))
        """Which of the groups 0 to 9."""
        limit: int = 0
        """So many images of each group at most; 0: all."""
        batch: int = 1
        """Images edited side by side, >= 1: quicker, and equal up to rounding."""
        as_published: bool = False
        """true: the figures as the published script counts them, to stand beside published tables; false: exact."""
        clip_model: str = "auto"
        """auto: ViT-L/14 as published, but tiny-clip beside an embedded model, whose pictures it knows."""
        structure_model: str = "auto"
        """auto: facebook/dino-vitb8 as published, but tiny-clip beside an embedded model."""
        lpips_net: str = "auto"
        """auto: squeeze as published, but tiny, a distance on tiny-clip, beside an embedded model."""

    cfg: Config

    def __call__(self, experiment: DictConfig) -> int:
        """Edit what is not edited yet, measure what is not measured yet, print."""
        from ..benchmarks.pie.run import run_pie_bench

        sys.stdout.write(run_pie_bench(self.cfg, experiment))
        return 0
