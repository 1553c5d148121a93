"""Trains the embedded U-Net and its text encoder on latents of the toy world."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..toyworld.captions import MAX_TOKENS, random_caption
from ..toyworld.tokenizer import build_tokenizer, token_ids
from ..toyworld.vocabulary import Attributes
from .make_tiny_vae import VAE_CONFIG
from .training import Trainer, Worker, batch_rng, load_shards

SEED = 12
WIDTH = 128
EMPTY_CAPTIONS = 0.1
HELD_OUT_BATCHES = 8
MAX_WEIGHT = 6.0
"""The v-loss is weighted by min(snr + 1, this) / (snr + 1): full weight where the image is decided."""
DETAIL_SHARE, DETAIL_RANGE = 0.5, (0.1, 0.65)
"""Share of the samples whose timestep is drawn from this part of the range, where patterns are decided."""
CENTER_WEIGHT, CENTER_SIGMA = 3.0, 0.22
"""The loss counts this much more in the middle, where the object is; a bell over the picture, width in its sides."""
UNET_CONFIG = {
    "sample_size": 16,
    "in_channels": VAE_CONFIG["latent_channels"],
    "out_channels": VAE_CONFIG["latent_channels"],
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (48, 96, 128),
    "layers_per_block": 1,
    "cross_attention_dim": WIDTH,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}
SCHEDULER_CONFIG = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def make_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise levels, velocity prediction."""
    return DDIMScheduler(**SCHEDULER_CONFIG)


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """CLIP's text transformer, two layers of width 128."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=MAX_TOKENS, projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return CLIPTextModel(config)


@torch.no_grad()
def encode_renders(worker: Worker, vae: AutoencoderKL, images: np.ndarray, batch: int = 64) -> tuple[Tensor, Tensor]:
    """Posterior means and standard deviations (n c 16 16), unscaled, float16; the processes share the work."""
    means = torch.zeros(len(images), vae.config.latent_channels, 16, 16)
    stds = torch.zeros_like(means)
    for start in range(worker.rank * batch, len(images), worker.count * batch):
        part = torch.from_numpy(images[start : start + batch]).permute(0, 3, 1, 2).float() / 127.5 - 1
        posterior = vae.encode(part.contiguous(memory_format=torch.channels_last)).latent_dist
        means[start : start + batch], stds[start : start + batch] = posterior.mean, posterior.std
    if worker.count > 1:
        dist.all_reduce(means)
        dist.all_reduce(stds)
    return means.half(), stds.half()


class Sample(NamedTuple):
    """A batch to learn from.

    Attributes:
        latents: Scaled, (b c h w).
        tokens: Ids of the texts, (b l).
        condition: Further channels that the network sees beside the noisy latents, (b c2 h w); None: none.
    """

    latents: Tensor
    tokens: Tensor
    condition: Tensor | None = None


class LatentBatches:
    """Latents with captions."""

    def __init__(self, means: Tensor, stds: Tensor, attributes: np.ndarray, scale: float, tokenizer) -> None:
        self.means, self.stds, self.scale, self.tokenizer = means, stds, scale, tokenizer
        self.attributes = attributes

    def batch(self, rng: np.random.Generator, generator: torch.Generator, size: int) -> Sample:
        """Latents (size c 16 16), drawn from their posteriors, and token ids (size 20)."""
        rows = rng.integers(len(self.means), size=size)
        noise = torch.randn((size, *self.means.shape[1:]), generator=generator)
        latents = (self.means[rows].float() + self.stds[rows].float() * noise) * self.scale
        return Sample(latents, token_ids(self.tokenizer, [self._caption(row, rng) for row in rows]))

    def _caption(self, row: int, rng: np.random.Generator) -> str:
        if rng.uniform() < EMPTY_CAPTIONS:
            return ""
        return random_caption(Attributes.from_labels(self.attributes[row]), rng)


def velocity_loss(
    unet: nn.Module, text_encoder: nn.Module, alphas: Tensor, sample: Sample, t: Tensor, noise: Tensor,
    place_weights: Tensor | float = 1.0,
) -> Tensor:  # fmt: skip
    """Weighted squared error of the predicted velocity (Salimans & Ho 2022, arXiv:2202.00512).

    ``place_weights`` (h w) are the same for all samples, so that they do not move the optimum.
    """
    a = alphas[t].view(-1, 1, 1, 1)
    noisy = a.sqrt() * sample.latents + (1 - a).sqrt() * noise
    velocity = a.sqrt() * noise - (1 - a).sqrt() * sample.latents
    seen = noisy if sample.condition is None else torch.cat([noisy, sample.condition], dim=1)
    predicted = unet(seen, t, text_encoder(sample.tokens).last_hidden_state).sample
    snr_plus_one = 1 / (1 - a)
    weight = snr_plus_one.clamp(max=MAX_WEIGHT) / snr_plus_one
    return (weight * place_weights * (predicted - velocity).pow(2)).mean()


def train(worker: Worker, data: Path, vae: AutoencoderKL, work: Path, num_steps: int, batch: int = 16) -> None:
    """Train and write ``work/unet.ckpt``; ``work/unet.log`` has a line every 250 steps."""
    images, attributes = load_shards(data, ("images", "attributes"), held_out=False)
    held_images, held_attributes = load_shards(data, ("images", "attributes"), held_out=True)
    tokenizer = build_tokenizer(work / "tokenizer") if worker.is_first else None
    if worker.count > 1:
        dist.barrier()
    tokenizer = tokenizer or CLIPTokenizer.from_pretrained(work / "tokenizer")
    means, stds = _cached_latents(worker, vae, images, work / "latents.pt")
    scale = vae.config.scaling_factor
    batches = LatentBatches(means, stds, attributes, scale, tokenizer)
    held = LatentBatches(*encode_renders(worker, vae, held_images[:512]), held_attributes[:512], scale, tokenizer)
    torch.manual_seed(SEED)
    unet = UNet2DConditionModel(**UNET_CONFIG).to(memory_format=torch.channels_last)
    text_encoder = make_text_encoder(tokenizer)
    trainer = Trainer(
        {"unet": unet, "text_encoder": text_encoder}, worker, learning_rate=1.2e-3, num_steps=num_steps,
        ema_decay=0.999, checkpoint=work / "unet.ckpt", warm_up=300,
    )  # fmt: skip
    alphas = make_scheduler().alphas_cumprod
    generator, places = torch.Generator(), center_weights(UNET_CONFIG["sample_size"])
    for step in trainer.steps():
        rng = batch_rng(SEED, step, worker.rank)
        generator.manual_seed(int(rng.integers(2**62)))
        sample = batches.batch(rng, generator, batch)
        t = training_timesteps(rng, batch, len(alphas))
        noise = torch.randn(sample.latents.shape, generator=generator)
        trainer.update(velocity_loss(unet, text_encoder, alphas, sample, t, noise, places))
        if worker.is_first and step % 250 == 249:
            loss = held_out_loss(trainer, alphas, held.batch, HELD_OUT_BATCHES, SEED)
            with (work / "unet.log").open("a") as log:
                log.write(f"{step + 1} {trainer.seconds:.0f}s held-out {loss:.5f}\n")


def stratified_timesteps(rng: np.random.Generator, size: int, num_timesteps: int) -> Tensor:
    """One timestep from each of ``size`` equal parts of the range, shuffled."""
    t = (rng.permutation(size) + rng.uniform(size=size)) / size * num_timesteps
    return torch.from_numpy(t.astype(np.int64))


def training_timesteps(rng: np.random.Generator, size: int, num_timesteps: int) -> Tensor:
    """Stratified timesteps, some of all and some of the range of details."""
    num_detail = round(DETAIL_SHARE * size)
    low, high = (round(share * num_timesteps) for share in DETAIL_RANGE)
    everywhere = stratified_timesteps(rng, size - num_detail, num_timesteps)
    return torch.cat([everywhere, low + stratified_timesteps(rng, num_detail, high - low)])


def center_weights(side: int) -> Tensor:
    """(side side) weights of places in the picture, mean 1."""
    places = (torch.arange(side) + 0.5) / side - 0.5
    bell = torch.exp(-0.5 * (places[:, None] ** 2 + places[None] ** 2) / CENTER_SIGMA**2)
    weights = 1 + (CENTER_WEIGHT - 1) * bell
    return weights / weights.mean()


@torch.no_grad()
def held_out_loss(trainer: Trainer, alphas: Tensor, draw: Callable[..., Sample], num_batches: int, seed: int) -> float:
    """Mean loss of the averaged weights on samples that are not trained on, drawn as ``LatentBatches.batch`` does.

    The same ones for the same seed.
    """
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(num_batches):
        sample = draw(rng, generator, 64)
        noise = torch.randn(sample.latents.shape, generator=generator)
        t = stratified_timesteps(rng, 64, len(alphas))
        losses.append(velocity_loss(trainer.ema["unet"], trainer.ema["text_encoder"], alphas, sample, t, noise))
    return float(torch.stack(losses).mean())


def _cached_latents(worker: Worker, vae: AutoencoderKL, images: np.ndarray, cache: Path) -> tuple[Tensor, Tensor]:
    if not cache.exists():
        means, stds = encode_renders(worker, vae, images)
        if worker.is_first:
            torch.save((means, stds), cache.with_suffix(".tmp"))
            cache.with_suffix(".tmp").replace(cache)
        if worker.count > 1:
            dist.barrier()
    return torch.load(cache, weights_only=True)
