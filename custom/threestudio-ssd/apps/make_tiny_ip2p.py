"""Trains the embedded InstructPix2Pix: the embedded U-Net with twice the input channels, on toy pairs. Resumable."""

from dataclasses import dataclass
from pathlib import Path

import threestudio
from threestudio.utils.base import Configurable

from .training import run_workers


@threestudio.register("app-make-tiny-ip2p")
class MakeTinyIp2p(Configurable):
    """Train the embedded InstructPix2Pix on toy pairs with instructions; goes on where it was interrupted."""

    needs_config = False

    @dataclass
    class Config:
        """Keys of the training."""

        base: str = "data/tiny-ldm"
        """Model that is fine-tuned."""
        work: str = "outputs/tiny-models"
        """Folder of pairs and checkpoints."""
        out: str = "data/tiny-ip2p"
        """Where the finished model goes."""
        num_shards: int = 12
        """Shards of pairs; the last one is held out."""
        pairs_a_shard: int = 1500
        """Pairs in each."""
        steps: int = 3000
        """Training steps."""
        batch: int = 16
        """Pairs a step and process."""
        num_processes: int = 2
        """Single-threaded processes that average their gradients."""

    def __call__(self, experiment: object) -> int:
        """Render, train, save."""
        from .tiny_ip2p_steps import ip2p_step, save_ip2p

        (Path(self.cfg.work) / "tiny-ip2p").mkdir(parents=True, exist_ok=True)
        run_workers(ip2p_step, self.cfg.num_processes, dict(self.cfg))
        save_ip2p(Path(self.cfg.base), Path(self.cfg.work) / "tiny-ip2p", Path(self.cfg.out))
        threestudio.info(f"The embedded InstructPix2Pix is in {self.cfg.out}.")
        return 0
