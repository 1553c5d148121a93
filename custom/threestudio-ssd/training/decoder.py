"""The embedded autoencoder's decoder, sharpened after training: its encoder, and so every latent, stays as it is."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .augment import jitter_colors
from .loop import Recipe, Worker, fit, load_average, numpy_generator
from .scenes import ToyData, load_toy_data
from .vae import held_out_quality, load_vae

NUM_CLEAN, NUM_ALTERED = 5, 1
"""Whole images a step and process: as rendered, and with altered colours."""
RECIPE = Recipe(
    steps=1100, batch_size=NUM_CLEAN + NUM_ALTERED, learning_rate=1e-3, seed=14, weight_decay=1e-4, warm_up_steps=200,
    hold_share=0.3, ema_decay=0.998,
)  # fmt: skip
LEAST_ERROR = 1e-5
"""Mean squared errors below this count as this."""
PARTS = ("post_quant_conv", "decoder")


def log_error(decoded: Float[Tensor, "b 3 h w"], images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
    """Mean over images of the log of their mean squared error: PSNR itself, up to a factor."""
    return (decoded - images).pow(2).flatten(1).mean(1).add(LEAST_ERROR).log().mean()


def image_batch(data: ToyData, size: int, generator: torch.Generator) -> Float[Tensor, "b 3 h w"]:
    """Whole renders, the last ``NUM_ALTERED`` with altered colours."""
    images = data.unit_images(data.draw(size, generator))
    images[-NUM_ALTERED:] = jitter_colors(images[-NUM_ALTERED:], numpy_generator(generator))
    return images.contiguous(memory_format=torch.channels_last)


def train(worker: Worker, data_folder: Path, work: Path, recipe: Recipe = RECIPE) -> Any:
    """Train the decoder of the autoencoder in ``work/vae``; checkpoint and log are ``work/decoder.*``.

    Args:
        worker: This process.
        data_folder: What ``write_scene_shards`` wrote.
        work: Where the autoencoder is, and checkpoint and log go.
        recipe: Steps and rates.

    Returns:
        The autoencoder with the decoder as trained, not averaged.
    """
    data = load_toy_data(data_folder, is_held_out=False)
    vae = load_vae(work / "vae")

    def loss(step: int, generator: torch.Generator) -> Tensor:
        images = image_batch(data, recipe.batch_size, generator)
        with torch.no_grad():
            latents = vae.encode(images * 2 - 1).latent_dist.mean
        return log_error(vae.decode(latents).sample / 2 + 0.5, images)

    quality = held_out_quality(data_folder, 96)
    fit(
        _parts(vae, is_trained=True), loss, recipe, work / "decoder.ckpt", worker, report_every=200,
        measure=lambda average: quality(with_decoder(vae, average)),
    )  # fmt: skip
    return vae


def load(work: Path) -> Any:
    """The autoencoder in ``work/vae`` with its sharpened decoder."""
    vae = load_vae(work / "vae")
    load_average(work / "decoder.ckpt", _parts(vae))
    return vae


def with_decoder(vae: Any, parts: Mapping[str, nn.Module]) -> Any:
    """A copy of the autoencoder with other weights in ``PARTS``, given by part."""
    whole = copy.deepcopy(vae)
    for name, part in parts.items():
        getattr(whole, name).load_state_dict(part.state_dict())
    return whole.to(memory_format=torch.channels_last).eval()


def _parts(vae: Any, is_trained: bool = False) -> dict[str, nn.Module]:
    return {name: getattr(vae, name).requires_grad_(is_trained) for name in PARTS}
