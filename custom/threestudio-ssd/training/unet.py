"""The embedded U-Net and its text encoder, trained together on latents of the toy world."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..diffusion.ray_map import rays_seen
from ..files import whole_file
from ..toyworld.captions import FRAMINGS, MAX_TOKENS, VIEW_SHARE, random_view_caption
from ..toyworld.tokenizer import build_tokenizer, token_ids
from ..toyworld.vocabulary import Attributes
from . import start
from .loop import Recipe, Training, Worker, fit, load_average, numpy_generator
from .precision import mixed_precision, quick_to_train
from .publish import save_pipeline
from .scenes import ToyData, load_toy_data
from .vae import VAE_CONFIG, encode, load_vae

RECIPE = Recipe(
    steps=18000, batch_size=16, learning_rate=7e-4, seed=12, weight_decay=1e-2, warm_up_steps=300, hold_share=0.3,
    ema_decay=0.999,
)  # fmt: skip
"""For a training that starts from a model."""
RECIPE_FROM_RANDOM = replace(RECIPE, learning_rate=1.2e-3)
WIDTH = 128
EMPTY_CAPTIONS = 0.1
NUM_HELD_OUT, HELD_OUT_BATCHES, HELD_OUT_BATCH_SIZE = 512, 8, 64
MAX_WEIGHT = 6.0
"""The v-loss is weighted by min(snr + 1, this) / (snr + 1): full weight where the image is decided."""
TIMES = ((0.3, (0.1, 0.65)), (0.25, (0.55, 0.9)), (0.125, (0.85, 1.0)))
"""Shares of the samples whose timestep is drawn from a part of the range: where patterns are decided, where outlines
and the side that is seen are, and where the colours of sky and ground are."""
CENTER_WEIGHT, CENTER_SIGMA = 3.0, 0.22
"""The loss counts this much more in the middle, where the object is; a bell over the image, width in its sides."""
UNET_CONFIG = {
    "sample_size": 16, "in_channels": VAE_CONFIG["latent_channels"], "out_channels": VAE_CONFIG["latent_channels"],
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "block_out_channels": (48, 96, 128),
    "layers_per_block": (2, 1, 1), "cross_attention_dim": WIDTH, "attention_head_dim": 4, "norm_num_groups": 8,
}  # fmt: skip


def make_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise levels, velocity prediction."""
    return DDIMScheduler(
        num_train_timesteps=1000, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
        prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip


def make_unet() -> nn.Module:
    """A ``UNet2DConditionModel`` of random weights."""
    return quick_to_train(UNet2DConditionModel(**UNET_CONFIG))


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """CLIP's text transformer, two layers of width 128."""
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=MAX_TOKENS, projection_dim=WIDTH, **ids,
    )  # fmt: skip
    return CLIPTextModel(config)


class Sample(NamedTuple):
    """A batch to learn from.

    Attributes:
        latents: Scaled, (b c h w).
        tokens: Ids of the texts, (b l).
        condition: Further channels that the network sees beside the noisy latents, (b c2 h w); None: none.
        rays: ``ObjectViews.passing`` that the ``ray_map`` among the modules gets, (b 8 h w); None: none.
        ray_shares: How much of them each sample is told, (b).
        covered: How much of each pixel the object makes up, in [0, 1], (b 1 H W); None: not known.
        light: Where it comes from, in the frame of the rays, (b 3); None: not known.
    """

    latents: Tensor
    tokens: Tensor
    condition: Tensor | None = None
    rays: Tensor | None = None
    ray_shares: Tensor | None = None
    covered: Tensor | None = None
    light: Tensor | None = None


class LatentBatches:
    """Latents with captions.

    Args:
        data: The scenes.
        posteriors: Means and standard deviations of their latents, unscaled.
        scale: The autoencoder's scaling factor.
        tokenizer: Of the captions.
    """

    def __init__(self, data: ToyData, posteriors: tuple[Tensor, Tensor], scale: float, tokenizer: CLIPTokenizer):
        self.data, self.posteriors, self.scale, self.tokenizer = data, posteriors, scale, tokenizer

    def batch(self, size: int, generator: torch.Generator) -> Sample:
        """Latents (size c 16 16), drawn from their posteriors, and token ids (size 20)."""
        rows, rng = self.data.draw(size, generator), numpy_generator(generator)
        has_object = self.data.has_object
        captions = [
            "" if rng.uniform() < EMPTY_CAPTIONS else caption_of(self.data, row, bool(has_object[row]), rng)
            for row in rows.tolist()
        ]
        latents = draw_latents(self.posteriors, rows, generator) * self.scale
        return Sample(latents, token_ids(self.tokenizer, captions))


def caption_of(
    data: Any, row: int, has_object: bool, rng: np.random.Generator, *, view_share: float = VIEW_SHARE
) -> str:
    """A random caption of a render.

    Args:
        data: ``ToyData``, ``ViewGroups`` or ``Pairs``.
        row: Of the render.
        has_object: Whether the scene has one.
        rng: Random numbers.
        view_share: As ``random_view_caption`` takes it.
    """
    azimuth_deg, elevation_deg = data.angles_deg[row].tolist()
    attributes, framing = Attributes.from_labels(data.labels[row].tolist()), FRAMINGS[int(data.framings[row])]
    return random_view_caption(attributes, has_object, framing, azimuth_deg, elevation_deg, rng, view_share)


def draw_latents(
    posteriors: tuple[Tensor, Tensor], rows: Int[Tensor, " b"], generator: torch.Generator
) -> Float[Tensor, "b c zh zw"]:
    """Unscaled latents of these rows, drawn from the means and standard deviations that ``vae.encode`` gave."""
    means, stds = (values[rows].float() for values in posteriors)
    return means + stds * torch.randn(means.shape, generator=generator)


def velocity_loss(
    modules: Mapping[str, nn.Module], alphas: Tensor, sample: Sample, t: Tensor, noise: Tensor,
    place_weights: Tensor | float = 1.0,
) -> Tensor:  # fmt: skip
    """Weighted squared error of the velocity (Salimans & Ho 2022, arXiv:2202.00512) that ``unet`` predicts.

    The networks compute in ``mixed_precision``. ``place_weights`` (h w) are the same for all samples, so that they do
    not move the optimum.
    """
    a = alphas[t].view(-1, 1, 1, 1)
    noisy = a.sqrt() * sample.latents + (1 - a).sqrt() * noise
    velocity = a.sqrt() * noise - (1 - a).sqrt() * sample.latents
    seen = noisy if sample.condition is None else torch.cat([noisy, sample.condition], dim=1)
    networks: Mapping[str, Any] = modules
    unet, told = networks["unet"], nullcontext()
    if sample.rays is not None:
        told = rays_seen(unet, networks["ray_map"], sample.rays, sample.ray_shares)
    with mixed_precision(), told:
        embeds = modules["text_encoder"](sample.tokens).last_hidden_state
        predicted = unet(seen, t, embeds).sample.float()
    snr_plus_one = 1 / (1 - a)
    weight = snr_plus_one.clamp(max=MAX_WEIGHT) / snr_plus_one
    return (weight * place_weights * (predicted - velocity).pow(2)).mean()


def train(
    worker: Worker, data_folder: Path, work: Path, recipe: Recipe = RECIPE_FROM_RANDOM, start_folder: Path | None = None
) -> Training:
    """Train on latents of the autoencoder in ``work/vae``; checkpoint and log are ``work/unet.*``.

    Args:
        worker: This process.
        data_folder: What ``write_scene_shards`` wrote.
        work: Where the autoencoder is, and tokenizer, checkpoint and log go.
        recipe: Steps and rates.
        start_folder: Model whose U-Net and text encoder are trained on; None: random weights.
    """
    data, held_data = (load_toy_data(data_folder, is_held_out=each) for each in (False, True))
    held_data = held_data.select(torch.arange(min(NUM_HELD_OUT, len(held_data))))
    if worker.is_first:
        build_tokenizer(work / "tokenizer")
    worker.wait_for_all()
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    vae = load_vae(work / "vae")
    scale = vae.config.scaling_factor
    batches = LatentBatches(
        data, cached_posteriors(worker, vae, data.images, data.seeds, work / "latents.pt"), scale, tokenizer
    )
    held_out = LatentBatches(held_data, encode(vae, held_data.images, worker), scale, tokenizer)
    torch.manual_seed(recipe.seed)
    modules = {"unet": make_unet(), "text_encoder": make_text_encoder(tokenizer)}
    if start_folder is not None:
        start.load_weights(start_folder, modules, tokenizer)
        recipe = replace(recipe, start=start.checksum(start_folder))
    alphas, weights = make_scheduler().alphas_cumprod, center_weights(UNET_CONFIG["sample_size"])

    def loss(step: int, generator: torch.Generator) -> Tensor:
        sample = batches.batch(recipe.batch_size, generator)
        t = training_timesteps(numpy_generator(generator), recipe.batch_size, len(alphas))
        noise = torch.randn(sample.latents.shape, generator=generator)
        return velocity_loss(modules, alphas, sample, t, noise, weights)

    return fit(
        modules, loss, recipe, work / "unet.ckpt", worker, report_every=250,
        measure=held_out_words(alphas, held_out.batch, HELD_OUT_BATCHES, recipe.seed),
    )  # fmt: skip


def save(work: Path, out: Path, vae: Any) -> None:
    """The whole model in diffusers layout, float16; ``StableDiffusionPipeline.from_pretrained`` reads it.

    Args:
        work: Folder of the checkpoint and the tokenizer.
        out: Where it goes.
        vae: Its autoencoder.
    """
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    modules = {"unet": make_unet(), "text_encoder": make_text_encoder(tokenizer)}
    load_average(work / "unet.ckpt", modules)
    parts = {**modules, "vae": vae, "tokenizer": tokenizer, "scheduler": make_scheduler()}
    save_pipeline(StableDiffusionPipeline, out, **parts)


def stratified_timesteps(rng: np.random.Generator, size: int, num_timesteps: int) -> Int[Tensor, " b"]:
    """One timestep from each of ``size`` equal parts of the range, shuffled."""
    t = (rng.permutation(size) + rng.uniform(size=size)) / size * num_timesteps
    return torch.from_numpy(t.astype(np.int64))


def training_timesteps(
    rng: np.random.Generator,
    size: int,
    num_timesteps: int,
    times: tuple[tuple[float, tuple[float, float]], ...] = TIMES,
) -> Int[Tensor, " b"]:
    """Stratified timesteps: of the parts of the range that ``times`` lists, the rest of the whole range."""
    parts, left = [], size
    for share, ends in times:
        count, (low, high) = round(share * size), (round(end * num_timesteps) for end in ends)
        parts.append(low + stratified_timesteps(rng, count, high - low))
        left -= count
    return torch.cat([stratified_timesteps(rng, left, num_timesteps), *parts])


def center_weights(side: int) -> Float[Tensor, "side side"]:
    """Weights of places in the image, mean 1."""
    places = (torch.arange(side) + 0.5) / side - 0.5
    bell = torch.exp(-0.5 * (places[:, None] ** 2 + places[None] ** 2) / CENTER_SIGMA**2)
    weights = 1 + (CENTER_WEIGHT - 1) * bell
    return weights / weights.mean()


@torch.no_grad()
def held_out_loss(
    modules: Mapping[str, nn.Module], alphas: Tensor, draw: Callable[[int, torch.Generator], Sample],
    num_batches: int, seed: int,
) -> float:  # fmt: skip
    """Mean loss on samples that are not trained on, drawn as ``LatentBatches.batch`` does; the same for a seed."""
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(num_batches):
        sample = draw(HELD_OUT_BATCH_SIZE, generator)
        noise = torch.randn(sample.latents.shape, generator=generator)
        t = stratified_timesteps(numpy_generator(generator), HELD_OUT_BATCH_SIZE, len(alphas))
        losses.append(velocity_loss(modules, alphas, sample, t, noise))
    return float(torch.stack(losses).mean())


def held_out_words(
    alphas: Tensor, draw: Callable[[int, torch.Generator], Sample], num_batches: int, seed: int
) -> Callable[[Mapping[str, nn.Module]], str]:
    """``held_out_loss`` of averaged modules, in words for a line of progress."""
    return lambda average: f"held-out {held_out_loss(average, alphas, draw, num_batches, seed):.5f}"


def cached_posteriors(
    worker: Worker, vae: nn.Module, images: UInt8[Tensor, "n 3 h w"], seeds: Int[Tensor, " n"], cache: Path
) -> tuple[Tensor, Tensor]:
    """Posteriors of renders, kept in a file for the scenes of these seeds and this autoencoder."""
    weights = hashlib.sha256(b"".join(value.numpy().tobytes() for value in vae.state_dict().values())).hexdigest()
    stored = torch.load(cache, weights_only=True) if cache.is_file() else {}
    if stored.get("vae") != weights or not torch.equal(stored["seeds"], seeds):
        means, stds = encode(vae, images, worker)
        stored = {"vae": weights, "seeds": seeds, "means": means, "stds": stds}
        if worker.is_first:
            with whole_file(cache) as beside:
                torch.save(stored, beside)
    return stored["means"], stored["stds"]
