"""The commands that train the small judges: ``--run make-tiny-classifier``, ``make-tiny-clip``, ``make-tiny-seg``."""

from dataclasses import dataclass
from pathlib import Path

import threestudio
from threestudio.utils.base import Configurable


class MakeJudge(Configurable):
    """A training behind ``launch.py --run``; resumes where it was stopped."""

    needs_config = False
    name = ""

    @dataclass
    class Config:
        """Where things are; the recipe's other numbers stand beside the model."""

        data: str = "outputs/tiny-models/data"
        """Folder that the data step of make-tiny-models wrote."""
        output: str = ""
        """Folder of the trained model; empty: the one that the repository ships."""
        work: str = "outputs/tiny-models"
        """Folder of the resumable state."""
        steps: int = 0
        """Training steps; 0: the recipe's."""
        threads: int = 1
        """Processor threads."""

    def __call__(self, experiment: object) -> int:
        """Train, measure and write the model."""
        from ..pretrained import DATA
        from ..training.make import make_judge

        cfg, output = self.cfg, Path(self.cfg.output) if self.cfg.output else DATA / self.name
        work = Path(cfg.work) / self.name
        make_judge(self.name, Path(cfg.data), output, work, steps=cfg.steps, num_threads=cfg.threads)
        return 0


@threestudio.register("app-make-tiny-classifier")
class MakeTinyClassifier(MakeJudge):
    """Train the attribute classifier that judges toy edits."""

    name = "tiny-classifier"


@threestudio.register("app-make-tiny-clip")
class MakeTinyClip(MakeJudge):
    """Train the embedded CLIP of the metrics."""

    name = "tiny-clip"


@threestudio.register("app-make-tiny-seg")
class MakeTinySeg(MakeJudge):
    """Train the embedded text-prompted segmenter; make-tiny-clip comes first."""

    name = "tiny-seg"
