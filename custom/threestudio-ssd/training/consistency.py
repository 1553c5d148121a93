"""A few-step sibling of the embedded model: a LoRA that makes it a latent consistency model.

A consistency model f gives, for any point of a path that denoises, the latents where that path ends (Song et al. 2023,
arXiv:2303.01469): f(z_t, t) = z_0, and f(z, 0) = z. Here the teacher solves the paths once, with guidance, and the
student is regressed on their ends (Luhman & Luhman 2021, arXiv:2101.02388). Latent consistency models (Luo et al. 2023,
arXiv:2310.04378) regress it on its own prediction one step further down instead, which needs a longer training.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import save_file
from torch import Tensor, nn

from ..diffusion import Backbone, PromptEmbeds, load_backbone
from ..diffusion.precision import cpu_has_bf16
from ..diffusion.sampling import guided_by, trajectory
from ..files import whole_file
from ..seeds import generator as seeded_generator
from ..toyworld.tokenizer import token_ids
from . import start
from .data import load_shards, write_shards
from .ip2p import load_base
from .loop import Recipe, Training, Worker, fit, load_average
from .precision import mixed_precision, quick_to_train
from .publish import write_readme
from .scenes import load_toy_data
from .unet import LatentBatches, cached_posteriors

RECIPE = Recipe(
    steps=1000, batch_size=32, learning_rate=1e-3, seed=15, weight_decay=0.0, warm_up_steps=50, hold_share=0.3,
    ema_decay=0.99,
)  # fmt: skip
NUM_ROUNDS = 24
"""Of solved paths, 640 pairs each; two of them are held out."""
ROUND_BATCH = 64
TIMESTEPS = (249, 499, 749, 999)
"""What it learns, and what a sampler of four steps visits."""
STRIDE = 50
"""From one timestep of the teacher to the next: 5 to 20 steps a path."""
GUIDANCE_SCALE = 5.0
"""Of the teacher; afterwards it is in the weights, and no null prompt is needed."""
OTHER_TEXTS = 0.5
"""Share of the paths that denoise a picture towards another text, as an edit does."""
HUBER = 0.03
"""Of the velocity: below this distance the loss is a square, above it a distance."""
SIGMA_DATA, TIMESTEP_SCALING = 0.5, 10.0
"""Of the boundary, as released latent consistency models have them."""
RANK = 16
TARGETS = (
    "to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "conv1", "conv2",
    "conv_shortcut", "time_emb_proj", "downsamplers.0.conv", "upsamplers.0.conv",
)  # fmt: skip
"""Layers that the LoRA changes: all but the first, the last and those of the timestep."""
ADAPTER = "lcm"
ABOUT = """
A LoRA that makes `data/tiny-ldm` a latent consistency model: at the timesteps 249, 499, 749 and 999 it predicts the
clean latents in one evaluation, with guidance 5 in its weights. Named by `lora=data/tiny-lcm/lora.safetensors`.

Origin: distilled from `data/tiny-ldm` by `custom/threestudio-ssd/training/consistency.py`, by regression on the ends of
the teacher's paths (Luhman & Luhman 2021, arXiv:2101.02388). Licence: Apache-2.0.
"""


def with_lora(unet: Any, seed: int) -> nn.Module:
    """The network with a LoRA that changes nothing yet; of its weights, those of the LoRA alone are trained."""
    torch.manual_seed(seed)
    unet = quick_to_train(unet)
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(TARGETS))
    inject_adapter_in_model(config, unet, adapter_name=ADAPTER)
    for name, weight in unet.named_parameters():
        weight.requires_grad_(f".{ADAPTER}." in name)
    return unet


def clean_latents(
    latents_noisy: Float[Tensor, "b c zh zw"], velocity: Float[Tensor, "b c zh zw"], timesteps: Int[Tensor, "b"],
    alphas_cumprod: Float[Tensor, "t"],
) -> Float[Tensor, "b c zh zw"]:  # fmt: skip
    """f(z, t) of a network that predicts the velocity; the latents themselves at t = 0 (Luo et al. 2023, Eq. 9).

    Args:
        latents_noisy: z.
        velocity: Predicted from them.
        timesteps: t.
        alphas_cumprod: Signal variance of every timestep.
    """
    scaled = (timesteps * TIMESTEP_SCALING).square()
    skip = SIGMA_DATA**2 / (scaled + SIGMA_DATA**2)
    out = (scaled / (scaled + SIGMA_DATA**2)).sqrt()
    abar = alphas_cumprod[timesteps]
    skip, out, signal, noise_level = (each.view(-1, 1, 1, 1) for each in (skip, out, abar.sqrt(), (1 - abar).sqrt()))
    return skip * latents_noisy + out * (signal * latents_noisy - noise_level * velocity)


def consistency_loss(
    student: nn.Module, alphas_cumprod: Float[Tensor, "t"], pairs: Mapping[str, Tensor], embeds: Float[Tensor, "b l d"]
) -> Tensor:
    """Pseudo-Huber distance of the student's f from the ends of the teacher's paths, on the scale of the velocity.

    The network computes in ``mixed_precision``.

    Args:
        student: Predicts the velocity.
        alphas_cumprod: Signal variance of every timestep.
        pairs: A batch of what ``solved_paths`` gives.
        embeds: Of their texts.
    """
    difference = velocity_errors(student, alphas_cumprod, pairs, embeds)
    return ((difference.square() + HUBER**2).sqrt() - HUBER).mean()


def velocity_errors(
    student: nn.Module, alphas_cumprod: Float[Tensor, "t"], pairs: Mapping[str, Tensor], embeds: Float[Tensor, "b l d"]
) -> Float[Tensor, "b c zh zw"]:
    """f - z_0 over the noise level: at timesteps this high, by how much the velocity is wrong."""
    noisy, clean, timesteps = pairs["noisy"].float(), pairs["clean"].float(), pairs["timesteps"]
    with mixed_precision():
        velocity = student(noisy, timesteps, embeds).sample.float()
    noise_level = (1 - alphas_cumprod[timesteps]).sqrt().view(-1, 1, 1, 1)
    return (clean_latents(noisy, velocity, timesteps, alphas_cumprod) - clean) / noise_level


@torch.no_grad()
def solved_paths(
    backbone: Backbone, latents: Float[Tensor, "b c zh zw"], noise: Float[Tensor, "b c zh zw"], first: int,
    embeds: PromptEmbeds, null: PromptEmbeds,
) -> dict[str, Tensor]:  # fmt: skip
    """The teacher's paths from noised latents down to clean ones, at the timesteps the student learns.

    Args:
        backbone: The teacher.
        latents: What is noised.
        noise: Standard normal.
        first: Where the paths begin, one of ``TIMESTEPS``.
        embeds: What they denoise towards.
        null: Of the empty text, one row.

    Returns:
        ``noisy`` (n c zh zw), ``timesteps`` (n), ``clean`` (n c zh zw): b rows for each of ``TIMESTEPS`` up to the
        first, rising; a path's rows have the same clean latents.
    """
    path = [*range(first, 0, -STRIDE), 0]
    noisy = backbone.add_noise(latents, noise, first)
    visited = trajectory(backbone, noisy, path, guided_by(backbone, embeds, null, GUIDANCE_SCALE))
    learned = [timestep for timestep in TIMESTEPS if timestep <= first]
    return {
        "noisy": torch.cat([visited[path.index(timestep)] for timestep in learned]),
        "timesteps": torch.tensor(learned).repeat_interleave(len(latents)),
        "clean": visited[-1].repeat(len(learned), 1, 1, 1),
    }


def write_solutions(worker: Worker, data_folder: Path, base: Path, work: Path, num_rounds: int = NUM_ROUNDS) -> None:
    """Write a shard of solved paths for each round; those that are there are kept.

    Args:
        worker: This process.
        data_folder: What ``write_scene_shards`` wrote.
        base: Folder of the teacher.
        work: Where its autoencoder, the latents of the data and the shards go.
        num_rounds: How many.
    """
    pipeline, data = load_base(base), load_toy_data(data_folder, is_held_out=False)
    posteriors = cached_posteriors(worker, pipeline.vae, data.images, data.seeds, work / "latents.pt")
    batches = LatentBatches(data, posteriors, pipeline.vae.config.scaling_factor, pipeline.tokenizer)
    backbone = load_backbone(base, dtype="bf16" if cpu_has_bf16() else "fp32")

    @torch.no_grad()
    def embedded(tokens: Tensor) -> PromptEmbeds:
        return PromptEmbeds(pipeline.text_encoder(tokens).last_hidden_state)

    def solve(number: int) -> dict[str, np.ndarray]:
        generator = seeded_generator(RECIPE.seed, number, "training-solutions")
        null, parts = embedded(token_ids(pipeline.tokenizer, [""])), []
        for first in TIMESTEPS:
            sample, other = batches.batch(ROUND_BATCH, generator), batches.batch(ROUND_BATCH, generator)
            has_other = torch.rand(ROUND_BATCH, 1, generator=generator) < OTHER_TEXTS
            tokens = torch.where(has_other, other.tokens, sample.tokens)
            noise = torch.randn(sample.latents.shape, generator=generator)
            pairs = solved_paths(backbone, sample.latents, noise, first, embedded(tokens), null)
            parts.append({**pairs, "tokens": tokens.repeat(len(pairs["noisy"]) // len(tokens), 1)})
        rows = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        seeds = np.full(len(rows["noisy"]), number)
        return {"seeds": seeds} | {
            name: (each.half() if each.is_floating_point() else each).numpy() for name, each in rows.items()
        }

    write_shards(worker, solutions_folder(base, work), num_rounds, solve, range(1))


def solutions_folder(base: Path, work: Path) -> Path:
    """Where the solved paths of this teacher are."""
    return work / f"solutions-{start.checksum(base)}"


def load_solutions(folder: Path, *, is_held_out: bool) -> dict[str, Tensor]:
    """What ``solved_paths`` gave, and ``tokens`` (n l), of the rounds that are held out, or of all others."""
    names = ("noisy", "timesteps", "clean", "tokens")
    return dict(zip(names, load_shards(folder, names, is_held_out=is_held_out), strict=True))


def train(worker: Worker, base: Path, work: Path, recipe: Recipe = RECIPE) -> Training:
    """Distil on what ``write_solutions`` wrote; checkpoint and log are ``work/lcm.*``.

    Args:
        worker: This process.
        base: Folder of the model that is the teacher and that the LoRA is for.
        work: Where the solved paths are, and checkpoint and log go.
        recipe: Steps and rates.
    """
    pipeline = load_base(base)
    student, text_encoder = with_lora(pipeline.unet, recipe.seed), pipeline.text_encoder.requires_grad_(False).eval()
    alphas_cumprod = pipeline.scheduler.alphas_cumprod
    training, held_out = (load_solutions(solutions_folder(base, work), is_held_out=each) for each in (False, True))

    def batch(pairs: Mapping[str, Tensor], rows: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        chosen = {name: values[rows] for name, values in pairs.items()}
        with torch.no_grad():
            return chosen, text_encoder(chosen["tokens"]).last_hidden_state

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(training["noisy"]), (recipe.batch_size,), generator=generator)
        return consistency_loss(student, alphas_cumprod, *batch(training, rows))

    @torch.no_grad()
    def held_out_words(average: Mapping[str, nn.Module]) -> str:
        errors = []
        for timestep in TIMESTEPS:
            rows = (held_out["timesteps"] == timestep).nonzero()[:ROUND_BATCH, 0]
            difference = velocity_errors(average["unet"], alphas_cumprod, *batch(held_out, rows))
            errors.append(f"{float(difference.square().mean().sqrt()):.3f}")
        return f"held-out {' '.join(errors)}"

    report = {"report_every": 100, "measure": held_out_words}
    return fit({"unet": student}, loss, recipe, work / "lcm.ckpt", worker, **report)


def save(base: Path, work: Path, out: Path) -> None:
    """The LoRA alone, float16, under diffusers' names: ``out/lora.safetensors``, with a page."""
    student = with_lora(load_base(base).unet, 0)
    recipe, seconds = load_average(work / "lcm.ckpt", {"unet": student})
    weights = {
        f"unet.{name.replace(f'.{ADAPTER}.', '.')}": weight.detach().half().contiguous()
        for name, weight in student.named_parameters() if f".{ADAPTER}." in name
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    with whole_file(out / "lora.safetensors") as beside:
        save_file(weights, beside, metadata={"format": "pt"})
    how = (
        f"{recipe.describe()};\nrank {RANK}, for `{base.name}` {start.checksum(base)}.\n"
        f"{seconds / 60:.0f} min of training."
    )
    write_readme(out, "tiny-lcm", ABOUT, how)
