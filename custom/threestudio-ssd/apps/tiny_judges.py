"""The commands that train the small judges: ``--run make-tiny-classifier``, ``make-tiny-clip``, ``make-tiny-seg``."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import threestudio
from threestudio.utils.base import BaseObject

DATA = Path(__file__).resolve().parents[3] / "data"


class TrainingApp(BaseObject):
    """A training script behind ``launch.py --run``; resumes where it was stopped."""

    needs_config = False
    name = ""

    @dataclass
    class Config(BaseObject.Config):
        """Where things are; the recipe's other numbers stand in the script."""

        data: str = "outputs/tiny-models/data"
        """Folder that the data step wrote."""
        output: str = ""
        """Folder of the trained model; empty: the one that the repository ships."""
        work: str = "outputs/tiny-models"
        """Folder of the resumable state."""
        steps: int = 0
        """Training steps; 0: the recipe's."""
        threads: int = 1
        """Processor threads."""

    cfg: Config

    def make(self, data: Path, output: Path, work: Path, steps: int) -> Any:
        """Train and write the model."""
        raise NotImplementedError(f"{type(self).__name__} does not say what to train")

    def __call__(self, cfg: Any) -> int:
        """Train; the experiment's config is not used."""
        import torch

        torch.set_num_threads(self.cfg.threads)
        torch.set_flush_denormal(True)  # a decaying weight average is full of them, and they are slow
        output = Path(self.cfg.output) if self.cfg.output else DATA / self.name
        try:
            self.make(Path(self.cfg.data), output, Path(self.cfg.work) / self.name, self.cfg.steps)
        finally:
            torch.set_flush_denormal(False)
        return 0


@threestudio.register("app-make-tiny-classifier")
class MakeTinyClassifier(TrainingApp):
    """Train the attribute classifier that judges toy edits."""

    name = "tiny-classifier"

    def make(self, data: Path, output: Path, work: Path, steps: int) -> Any:
        """Train and write the model."""
        from .make_tiny_classifier import RECIPE, make_tiny_classifier

        return make_tiny_classifier(data, output, work, with_steps(RECIPE, steps), info=threestudio.info)


@threestudio.register("app-make-tiny-clip")
class MakeTinyClip(TrainingApp):
    """Train the embedded CLIP of the metrics."""

    name = "tiny-clip"

    def make(self, data: Path, output: Path, work: Path, steps: int) -> Any:
        """Train and write the model."""
        from .make_tiny_clip import RECIPE, make_tiny_clip

        return make_tiny_clip(data, output, work, with_steps(RECIPE, steps), info=threestudio.info)


@threestudio.register("app-make-tiny-seg")
class MakeTinySeg(TrainingApp):
    """Train the embedded text-prompted segmenter; make-tiny-clip comes first."""

    name = "tiny-seg"

    def make(self, data: Path, output: Path, work: Path, steps: int) -> Any:
        """Train and write the model."""
        from .make_tiny_seg import RECIPE, make_tiny_seg

        recipe = with_steps(RECIPE, steps)
        return make_tiny_seg(
            data, output, work, recipe, clip_folder=output.with_name("tiny-clip"), info=threestudio.info
        )


def with_steps(recipe: Any, steps: int) -> Any:
    """The recipe, with another number of steps unless that is 0."""
    return replace(recipe, steps=steps) if steps else recipe
