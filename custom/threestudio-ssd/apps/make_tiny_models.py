"""Trains every embedded model again: data, autoencoder, U-Net with text encoder, decoder, and the judges. Resumable."""

from dataclasses import dataclass
from pathlib import Path

import threestudio
from threestudio.utils.base import Configurable

from .training import run_workers

JUDGES = ("tiny-classifier", "tiny-clip", "tiny-seg")
"""In the order in which one starts from another."""


@threestudio.register("app-make-tiny-models")
class MakeTinyModels(Configurable):
    """Train the embedded diffusion model again; goes on where it was interrupted."""

    needs_config = False

    @dataclass
    class Config:
        """Keys of the training."""

        work: str = "outputs/tiny-models"
        """Folder of data and checkpoints."""
        out: str = "data/tiny-ldm"
        """Where the finished model goes."""
        photos: str = "data/banana/images"
        """Photographs whose pieces the autoencoder also sees."""
        num_shards: int = 18
        """Shards of renders; the last one is held out."""
        scenes_a_shard: int = 1000
        """Scenes in each, three renders a scene."""
        vae_steps: int = 5200
        """Steps of the autoencoder."""
        unet_steps: int = 10400
        """Steps of the U-Net, 16 samples for each process."""
        decoder_steps: int = 1100
        """Steps of the decoder alone, after them."""
        num_processes: int = 2
        """Single-threaded processes that average their gradients."""
        judges: bool = True
        """Also train the small models that judge and mask: classifier, CLIP, segmenter."""
        judge_steps: int = 0
        """Steps of each of these; 0: its recipe's."""

    def __call__(self, experiment: object) -> int:
        """Run the steps that are not done yet."""
        from . import tiny_ldm_steps as steps

        work = Path(self.cfg.work)
        work.mkdir(parents=True, exist_ok=True)
        for step in (steps.data_step, steps.vae_step, steps.unet_step, steps.decoder_step):
            run_workers(step, self.cfg.num_processes, dict(self.cfg))
        steps.save_pipeline(work, Path(self.cfg.out))
        threestudio.info(f"The embedded model is in {self.cfg.out}.")
        where = {"data": str(work / "data"), "work": str(work), "steps": self.cfg.judge_steps}
        for name in JUDGES if self.cfg.judges else ():
            threestudio.find(f"app-make-{name}")({**where, "output": str(Path(self.cfg.out).with_name(name))})(None)
        return 0
