"""The embedded view adapter: beside the embedded U-Net, which stays as it is, it learns to draw views together."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from jaxtyping import Int
from torch import Tensor, nn

from ..diffusion.attention import Layer
from ..diffusion.beside import save_beside
from ..diffusion.view_adapter import ViewAdapter, drawn_together, load_view_adapter
from ..files import sha256
from . import start
from .ip2p import load_base
from .loop import Recipe, Training, Worker, fit, load_average, numpy_generator
from .publish import write_readme
from .unet import (
    UNET_CONFIG,
    cached_posteriors,
    center_weights,
    make_scheduler,
    stratified_timesteps,
    velocity_loss,
)
from .vae import encode
from .view_groups import GroupBatches, load_view_groups

RECIPE = Recipe(
    steps=8000, batch_size=16, learning_rate=1e-3, seed=16, weight_decay=1e-2, warm_up_steps=200, hold_share=0.3,
    ema_decay=0.999,
)  # fmt: skip
GROUP_SIZES = (4, 8, 16)
"""Views that are drawn together, in turn; all of a step are as many as a batch has."""
LOW, LOW_SHARE = 0.2, 0.1
"""Share of the samples whose timestep is drawn from this lower part of the range, where views have little to tell each
other."""
HELD_OUT_SIZES, HELD_OUT_BATCHES, HELD_OUT_BATCH_SIZE = (4, 16), 6, 96
ABOUT = """
An adapter through which `data/tiny-ldm` draws several views of one object together. Beside each self-attention layer
stands one in which the tokens of all views attend to each other, after MV-Adapter (Huang et al. 2024,
arXiv:2412.03632). Named by `system.editing.consistency.name=view-adapter`.

Origin: trained beside `data/tiny-ldm`, whose weights stay, by `custom/threestudio-ssd/training/view_adapter.py` on
renders of the toy world. Licence: Apache-2.0.
"""


def train(
    worker: Worker, groups_folder: Path, base: Path, work: Path, recipe: Recipe = RECIPE, start_file: Path | None = None
) -> Training:
    """Train the adapter of a model; checkpoint and log are ``work/views.*``.

    Args:
        worker: This process.
        groups_folder: What ``write_view_group_shards`` wrote.
        base: Folder of the text-to-image model.
        work: Where checkpoint, log and the latents of the renders go.
        recipe: Steps and rates.
        start_file: Adapter that is trained on; None: a new one.

    Raises:
        ConfigError: If the start does not fit the model.
    """
    pipeline = load_base(base)
    vae, tokenizer = pipeline.vae.requires_grad_(False).eval(), pipeline.tokenizer
    networks = {name: getattr(pipeline, name).requires_grad_(False).eval() for name in ("unet", "text_encoder")}
    groups, held_groups = (load_view_groups(groups_folder, is_held_out=each) for each in (False, True))
    scale = vae.config.scaling_factor
    posteriors = cached_posteriors(worker, vae, groups.images, groups.seeds, work / "latents.pt")
    training = GroupBatches(groups, posteriors, scale, tokenizer)
    held_out = GroupBatches(held_groups, encode(vae, held_groups.images, worker), scale, tokenizer)
    torch.manual_seed(recipe.seed)
    adapter, plain = ViewAdapter(networks["unet"]), AttnProcessor()  # fused attention has a slow gradient in bfloat16
    if start_file is not None:
        adapter.load_state_dict(load_view_adapter(start_file, networks["unet"], "run.start").state_dict())
        recipe = replace(recipe, start=sha256(start_file)[: start.CHECKSUM_LENGTH])
    alphas, weights = make_scheduler().alphas_cumprod, center_weights(UNET_CONFIG["sample_size"])

    def own(layer: Layer, hidden: Tensor) -> Tensor:
        return plain(layer.module, hidden)

    def loss_of(
        module: Any, batches: GroupBatches, t: Int[Tensor, " g"], size: int, generator: torch.Generator,
        place_weights: Tensor | float = 1.0,
    ) -> Tensor:  # fmt: skip
        sample, geometry = batches.batch(len(t), size, generator)
        noise = torch.randn(sample.latents.shape, generator=generator)
        beside = drawn_together(networks["unet"], module, geometry, own) if module else nullcontext()
        with beside:
            return velocity_loss(networks, alphas, sample, t.repeat_interleave(size), noise, place_weights)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        size, rng = GROUP_SIZES[step % len(GROUP_SIZES)], numpy_generator(generator)
        t = random_timesteps(rng, max(1, recipe.batch_size // size), len(alphas))
        return loss_of(adapter, training, t, size, generator, weights)

    @torch.no_grad()
    def held_out_loss(module: Any, size: int) -> float:
        generator, losses = torch.Generator().manual_seed(recipe.seed), []
        for _ in range(HELD_OUT_BATCHES):
            t = stratified_timesteps(numpy_generator(generator), HELD_OUT_BATCH_SIZE // size, len(alphas))
            losses.append(loss_of(module, held_out, t, size, generator))
        return float(torch.stack(losses).mean())

    alone = {size: held_out_loss(None, size) for size in HELD_OUT_SIZES}

    def held_out_words(average: Mapping[str, nn.Module]) -> str:
        figures = [f"{size} views {alone[size]:.5f} -> {held_out_loss(average['adapter'], size):.5f}" for size in alone]
        return f"held-out {', '.join(figures)}"

    return fit(
        {"adapter": adapter}, loss, recipe, work / "views.ckpt", worker, report_every=250, measure=held_out_words
    )


def random_timesteps(rng: np.random.Generator, count: int, num_timesteps: int) -> Int[Tensor, " g"]:
    """One for each group, mostly from where the shape is not decided yet, see ``LOW``."""
    low, high = rng.uniform(0, LOW, count), rng.uniform(LOW, 1, count)
    shares = np.where(rng.uniform(size=count) < LOW_SHARE, low, high)
    return torch.from_numpy((shares * num_timesteps).astype(np.int64))


def save(base: Path, work: Path, out: Path) -> None:
    """The adapter, float16: ``out/adapter.safetensors``, with a page."""
    unet = load_base(base).unet
    adapter = ViewAdapter(unet)
    recipe, seconds = load_average(work / "views.ckpt", {"adapter": adapter})
    save_beside(adapter, out / "adapter.safetensors", unet)
    begun = f"trained on from an adapter {recipe.start};\n" if recipe.start else ""
    how = (
        f"{recipe.describe()};\n{', '.join(map(str, GROUP_SIZES))} views together; for `{base.name}` "
        f"{start.checksum(base)};\n{begun}{seconds / 60:.0f} min of training."
    )
    write_readme(out, "tiny-views", ABOUT, how)
