"""The embedded autoencoder: 64 px to 16x16x8 latents, colour-faithful also off the toy world."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from ..errors import ConfigError
from ..metrics import psnr
from .augment import jitter_colors
from .loop import Recipe, Training, Worker, fit, load_average, numpy_generator
from .scenes import SIZE, ToyData, evenly_spread, load_toy_data

RECIPE = Recipe(
    steps=5200, batch_size=10, learning_rate=2e-3, seed=11, weight_decay=1e-4, warm_up_steps=200, hold_share=0.3,
    ema_decay=0.998,
)  # fmt: skip
"""A batch is of crops; every fourth is of ``NUM_WHOLE`` whole images."""
CROP, NUM_WHOLE, PHOTO_SHARE = 32, 3, 0.15
VAE_CONFIG = {
    "in_channels": 3, "out_channels": 3, "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3, "block_out_channels": (24, 48, 96), "layers_per_block": 1,
    "latent_channels": 8, "norm_num_groups": 8, "sample_size": SIZE, "mid_block_add_attention": False,
}  # fmt: skip
KL_WEIGHT, GRADIENT_WEIGHT, MSE_WEIGHT, COLOR_WEIGHT = 1e-4, 0.25, 8.0, 2.0
NUM_SCALING_IMAGES = 1024


def new_vae() -> Any:
    """An ``AutoencoderKL`` of random weights."""
    vae: Any = AutoencoderKL(**VAE_CONFIG)
    return vae.to(memory_format=torch.channels_last)


def load_vae(folder: Path) -> Any:
    """The ``AutoencoderKL`` in a folder, fixed."""
    vae: Any = AutoencoderKL.from_pretrained(folder)
    return vae.to(memory_format=torch.channels_last).requires_grad_(False).eval()


def load_photographs(folder: Path) -> list[UInt8[Tensor, "3 _ _"]]:
    """Every ``*.jpg`` of a folder at half its size.

    Raises:
        ConfigError: If there is none.
    """
    photographs = []
    for path in sorted(folder.glob("*.jpg")):
        whole = Image.open(path).convert("RGB")
        half = whole.resize((whole.width // 2, whole.height // 2), Image.Resampling.LANCZOS)
        photographs.append(torch.from_numpy(np.array(half)).permute(2, 0, 1).contiguous())
    if not photographs:
        raise ConfigError(
            what=f"no .jpg in {folder}", expected="photographs whose pieces the autoencoder sees beside the toy world",
            fix="set run.photos to a folder of photographs",
        )  # fmt: skip
    return photographs


def image_batch(
    data: ToyData, photographs: list[Tensor], size: int, crop: int, generator: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """Training images: half as they are, half in colours that the toy world never shows.

    Args:
        data: Renders.
        photographs: As ``load_photographs`` gives them; the last images are pieces of these.
        size: How many images.
        crop: Height and width of the pieces that are cut out of renders and photographs, mirrored or not, in pixels.
        generator: Random numbers.
    """
    rng, num_photographs = numpy_generator(generator), int(PHOTO_SHARE * size)
    images = list(data.images[data.draw(size - num_photographs, generator)])
    images += [photographs[rng.integers(len(photographs))] for _ in range(num_photographs)]
    pieces = torch.stack([_piece(image, crop, rng) for image in images]).float() / 255
    half = size // 2
    pieces[half:] = jitter_colors(pieces[half:], rng)
    return pieces.contiguous(memory_format=torch.channels_last)


def _piece(image: UInt8[Tensor, "3 _ _"], crop: int, rng: np.random.Generator) -> UInt8[Tensor, "3 _ _"]:
    y, x = (rng.integers(side - crop + 1) for side in image.shape[1:])
    piece = image[:, y : y + crop, x : x + crop]
    return piece.flip(-1) if rng.integers(2) else piece


def vae_loss(vae: Any, images: Tensor, generator: torch.Generator) -> Tensor:
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
def reconstruct(vae: Any, images: Float[Tensor, "b 3 h w"], batch: int = 32) -> Float[Tensor, "b 3 h w"]:
    """Decode the posterior mean; images in [0, 1]."""
    parts = [vae.decode(vae.encode(part * 2 - 1).latent_dist.mean).sample for part in images.split(batch)]
    return (torch.cat(parts) / 2 + 0.5).clamp(0, 1)


def held_out_quality(data_folder: Path, count: int) -> Callable[[Any], str]:
    """How well an autoencoder gives held-out renders back, as they are and with altered colours, in a few words."""
    data = load_toy_data(data_folder, is_held_out=True)
    clean = data.unit_images(evenly_spread(count, len(data)))
    altered = jitter_colors(clean, np.random.default_rng(RECIPE.seed))

    def quality(vae: Any) -> str:
        values = [float(psnr(reconstruct(vae, images), images).mean()) for images in (clean, altered)]
        return "held-out clean {:.2f} dB altered {:.2f} dB".format(*values)

    return quality


def train(worker: Worker, data_folder: Path, photo_folder: Path, work: Path, recipe: Recipe = RECIPE) -> Training:
    """Train, and write the finished autoencoder into ``work/vae``; checkpoint and log are ``work/vae.*``.

    Args:
        worker: This process.
        data_folder: What ``write_scene_shards`` wrote.
        photo_folder: Photographs whose pieces are trained on too.
        work: Where checkpoint, log and model go.
        recipe: Steps and rates.
    """
    data, photographs = load_toy_data(data_folder, is_held_out=False), load_photographs(photo_folder)
    torch.manual_seed(recipe.seed)
    vae = new_vae()

    def loss(step: int, generator: torch.Generator) -> Tensor:
        size, crop = (NUM_WHOLE, SIZE) if step % 4 == 3 else (recipe.batch_size, CROP)
        return vae_loss(vae, image_batch(data, photographs, size, crop, generator), generator)

    quality = held_out_quality(data_folder, 48)
    training = fit(
        {"vae": vae}, loss, recipe, work / "vae.ckpt", worker, report_every=200,
        measure=lambda average: quality(average["vae"]),
    )  # fmt: skip
    if worker.is_first:
        save(work, data)
    return training


def save(work: Path, data: ToyData) -> None:
    """Write the averaged autoencoder into ``work/vae``; its scaling factor gives the latents unit variance."""
    vae = new_vae()
    load_average(work / "vae.ckpt", {"vae": vae})
    means, _ = encode(vae, data.images[evenly_spread(NUM_SCALING_IMAGES, len(data))])
    vae.register_to_config(scaling_factor=round(1 / float(means.float().std()), 4))
    vae.save_pretrained(work / "vae")


@torch.no_grad()
def encode(
    vae: Any, images: UInt8[Tensor, "n 3 h w"], worker: Worker | None = None, batch: int = 64
) -> tuple[Float[Tensor, "n c zh zw"], Float[Tensor, "n c zh zw"]]:
    """Posterior means and standard deviations, unscaled, float16; the processes share the work."""
    worker, side = worker or Worker(), images.shape[-1] // 4
    means = torch.zeros(len(images), vae.config["latent_channels"], side, side)
    stds = torch.zeros_like(means)
    for start in range(worker.rank * batch, len(images), worker.count * batch):
        rows = slice(start, start + batch)
        part = images[rows].float() / 127.5 - 1
        posterior = vae.encode(part.contiguous(memory_format=torch.channels_last)).latent_dist
        means[rows], stds[rows] = posterior.mean, posterior.std
    for values in (means, stds):
        worker.sum_over_all(values)
    return means.half(), stds.half()
