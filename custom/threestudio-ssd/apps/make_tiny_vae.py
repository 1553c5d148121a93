"""Trains the embedded autoencoder: 64 px to 16x16x8 latents, colour-faithful also off the toy world."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from ..metrics import psnr
from .color_jitter import jitter_colors
from .training import Trainer, Worker, batch_rng, load_shards

SEED = 11
CROP = 32
VAE_CONFIG = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (24, 48, 96),
    "layers_per_block": 1,
    "latent_channels": 8,
    "norm_num_groups": 8,
    "sample_size": 64,
    "mid_block_add_attention": False,
}
KL_WEIGHT, GRADIENT_WEIGHT, MSE_WEIGHT, COLOR_WEIGHT = 1e-4, 0.25, 8.0, 2.0


class Pictures:
    """Training batches: toy renders, colour-jittered renders, and pieces of photographs."""

    def __init__(self, data: Path, photos: Path) -> None:
        (self.renders,) = load_shards(data, ("images",), held_out=False)
        files = sorted(Path(photos).glob("*.jpg"))
        self.photos = [np.asarray(_halved(Image.open(file).convert("RGB"))) for file in files]

    def batch(self, rng: np.random.Generator, size: int, crop: int) -> Tensor:
        """(size 3 crop crop) in [0, 1]: half clean renders, half altered."""
        images = np.stack([self._piece(rng, crop, i >= 0.85 * size) for i in range(size)])
        images = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        half = size // 2
        images[half:] = jitter_colors(images[half:], rng)
        return images.contiguous(memory_format=torch.channels_last)

    def _piece(self, rng: np.random.Generator, crop: int, is_photo: bool) -> np.ndarray:
        image = (
            self.photos[rng.integers(len(self.photos))] if is_photo else self.renders[rng.integers(len(self.renders))]
        )
        y, x = rng.integers(image.shape[0] - crop + 1), rng.integers(image.shape[1] - crop + 1)
        piece = image[y : y + crop, x : x + crop]
        return piece[:, ::-1] if rng.integers(2) else piece


def vae_loss(vae: AutoencoderKL, images: Tensor, generator: torch.Generator) -> Tensor:
    """L1 + 8 MSE + 0.25 image-gradient L1 + 2 L1 of 4x4 means (hues are learned first) + 1e-4 KL."""
    posterior = vae.encode(images * 2 - 1).latent_dist
    decoded = vae.decode(posterior.sample(generator)).sample / 2 + 0.5
    error = decoded - images
    gradient = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    kl = posterior.kl().sum() / posterior.mean.numel()
    color = F.avg_pool2d(error, 4).abs().mean()
    loss = error.abs().mean() + MSE_WEIGHT * error.pow(2).mean() + GRADIENT_WEIGHT * gradient
    return loss + COLOR_WEIGHT * color + KL_WEIGHT * kl


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, images: Tensor, batch: int = 32) -> Tensor:
    """Decode the posterior mean; images (b 3 h w) in [0, 1]."""
    parts = [vae.decode(vae.encode(part * 2 - 1).latent_dist.mean).sample for part in images.split(batch)]
    return (torch.cat(parts) / 2 + 0.5).clamp(0, 1)


def held_out_images(data: Path, count: int) -> tuple[Tensor, Tensor]:
    """Held-out renders and the same with altered colours, (count 3 64 64)."""
    (renders,) = load_shards(data, ("images",), held_out=True)
    pick = np.linspace(0, len(renders) - 1, count).astype(int)
    clean = torch.from_numpy(renders[pick]).permute(0, 3, 1, 2).float() / 255
    return clean, jitter_colors(clean, np.random.default_rng(SEED))


def train(worker: Worker, data: Path, photos: Path, work: Path, num_steps: int) -> None:
    """Train and write ``work/vae.ckpt``; ``work/vae.log`` has a line every 200 steps."""
    torch.manual_seed(SEED)
    vae = AutoencoderKL(**VAE_CONFIG).to(memory_format=torch.channels_last)
    trainer = Trainer(
        {"vae": vae},
        worker,
        learning_rate=2e-3,
        num_steps=num_steps,
        ema_decay=0.998,
        checkpoint=work / "vae.ckpt",
        weight_decay=1e-4,
    )
    pictures = Pictures(data, photos)
    clean, altered = held_out_images(data, 48)
    generator = torch.Generator()
    for step in trainer.steps():
        rng = batch_rng(SEED, step, worker.rank)
        generator.manual_seed(int(rng.integers(2**62)))
        is_whole = step % 4 == 3
        images = pictures.batch(rng, 3 if is_whole else 10, 64 if is_whole else CROP)
        trainer.update(vae_loss(vae, images, generator))
        if worker.is_first and step % 200 == 199:
            log_quality(work / "vae.log", trainer, trainer.ema["vae"], clean, altered)


def log_quality(file: Path, trainer: Trainer, vae: AutoencoderKL, clean: Tensor, altered: Tensor) -> None:
    """Add a line to ``file``: step, seconds, how well ``vae`` gives clean and colour-altered pictures back."""
    found = [float(psnr(reconstruct(vae, images), images).mean()) for images in (clean, altered)]
    with file.open("a") as log:
        log.write(f"{trainer.step + 1} {trainer.seconds:.0f}s clean {found[0]:.2f} dB altered {found[1]:.2f} dB\n")


def _halved(photo: Image.Image) -> Image.Image:
    return photo.resize((photo.width // 2, photo.height // 2), Image.LANCZOS)
