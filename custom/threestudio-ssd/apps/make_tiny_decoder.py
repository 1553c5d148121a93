"""Sharpens the embedded autoencoder's decoder after training: its encoder, and so every latent, stays as it is."""

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from .color_jitter import jitter_colors
from .make_tiny_vae import held_out_images, log_quality
from .training import Trainer, Worker, batch_rng, load_shards

SEED = 14
NUM_CLEAN, NUM_ALTERED = 5, 1
"""Whole pictures a step and process: as rendered, and with altered colours."""
LEAST_ERROR = 1e-5
"""Mean squared errors below this count as this."""
PARTS = ("post_quant_conv", "decoder")


def log_error(decoded: Tensor, images: Tensor) -> Tensor:
    """Mean over pictures of the log of their mean squared error: PSNR itself, up to a factor."""
    return (decoded - images).pow(2).flatten(1).mean(1).add(LEAST_ERROR).log().mean()


def train(worker: Worker, data: Path, vae: AutoencoderKL, work: Path, num_steps: int) -> None:
    """Train ``vae``'s decoder and write ``work/decoder.ckpt``; ``work/decoder.log`` has a line every 200 steps.

    Args:
        worker: This process.
        data: Folder of the toy data.
        vae: The finished autoencoder; its decoder is changed in place.
        work: Where checkpoint and log go.
        num_steps: Length of the training.
    """
    (renders,) = load_shards(data, ("images",), held_out=False)
    vae = vae.to(memory_format=torch.channels_last).requires_grad_(False)
    modules = {name: getattr(vae, name).requires_grad_(True) for name in PARTS}
    trainer = Trainer(
        modules, worker, learning_rate=1e-3, num_steps=num_steps, ema_decay=0.998, checkpoint=work / "decoder.ckpt",
        weight_decay=1e-4,
    )  # fmt: skip
    clean, altered = held_out_images(data, 96)
    for step in trainer.steps():
        images = _batch(renders, batch_rng(SEED, step, worker.rank))
        with torch.no_grad():
            latents = vae.encode(images * 2 - 1).latent_dist.mean
        trainer.update(log_error(vae.decode(latents).sample / 2 + 0.5, images))
        if worker.is_first and step % 200 == 199:
            whole = with_decoder(vae, {name: part.state_dict() for name, part in trainer.ema.items()})
            log_quality(work / "decoder.log", trainer, whole, clean, altered)


def with_decoder(vae: AutoencoderKL, states: Mapping[str, Mapping[str, Tensor]]) -> AutoencoderKL:
    """A copy of the autoencoder with other weights in ``PARTS``, given by part."""
    whole = copy.deepcopy(vae)
    for name, state in states.items():
        getattr(whole, name).load_state_dict(state)
    return whole.to(memory_format=torch.channels_last).eval()


def _batch(renders: np.ndarray, rng: np.random.Generator) -> Tensor:
    rows = rng.integers(len(renders), size=NUM_CLEAN + NUM_ALTERED)
    images = torch.from_numpy(renders[rows]).permute(0, 3, 1, 2).float() / 255
    images[NUM_CLEAN:] = jitter_colors(images[NUM_CLEAN:], rng)
    return images.contiguous(memory_format=torch.channels_last)
