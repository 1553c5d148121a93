"""A few-step sibling of the embedded model: a LoRA that makes it a latent consistency model."""

from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor
from jaxtyping import Float, Int
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import save_file
from torch import Tensor, nn

from ..files import whole_file
from ..toyworld.tokenizer import token_ids
from . import start
from .ip2p import load_base
from .loop import Recipe, Training, Worker, fit, load_average, numpy_generator
from .publish import write_readme
from .scenes import load_toy_data
from .unet import LatentBatches, Sample, cached_posteriors

RECIPE = Recipe(
    steps=2000, batch_size=16, learning_rate=1e-3, seed=15, weight_decay=0.0, warm_up_steps=100, hold_share=0.5,
    ema_decay=0.99,
)  # fmt: skip
RANK = 8
TARGETS = (
    "to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "conv1", "conv2",
    "conv_shortcut", "time_emb_proj", "downsamplers.0.conv", "upsamplers.0.conv",
)  # fmt: skip
"""Layers that the LoRA changes: all but the first, the last and those of the timestep."""
ADAPTER = "lcm"
NUM_TIMESTEPS = 10
"""Timesteps that it learns, evenly over all: 19, 39, ..., 999 of 1,000. A step of the teacher goes from one to the
next."""
GUIDANCE_SCALE = 5.0
"""Of the teacher; afterwards it is in the weights, and no null prompt is needed."""
HUBER = 1e-3
"""Below this distance the loss is a square, above it a distance."""
ABOUT = """
A LoRA that makes `data/tiny-ldm` a latent consistency model: from any of 50 timesteps it predicts the clean latents in
one step, with guidance 5 in its weights. Named by `lora=data/tiny-lcm/lora.safetensors`.

Origin: distilled from `data/tiny-ldm` by `custom/threestudio-ssd/training/consistency.py` (Luo et al. 2023,
arXiv:2311.05556). Licence: Apache-2.0.
"""


def with_lora(unet: Any, seed: int) -> nn.Module:
    """The network with a LoRA that changes nothing yet; of its weights, those of the LoRA alone are trained."""
    torch.manual_seed(seed)
    unet.set_attn_processor(AttnProcessor())  # the gradient of fused attention is slow in bfloat16
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(TARGETS))
    inject_adapter_in_model(config, unet, adapter_name=ADAPTER)
    for name, weight in unet.named_parameters():
        weight.requires_grad_(f".{ADAPTER}." in name)
    return unet


def grid(num_timesteps: int) -> Int[Tensor, "n"]:
    """The timesteps that it learns, rising."""
    stride = num_timesteps // NUM_TIMESTEPS
    return torch.arange(1, NUM_TIMESTEPS + 1) * stride - 1


def consistency_loss(
    student: nn.Module, teacher: nn.Module, alphas: Float[Tensor, "t"], sample: Sample, embeds: Tensor, nulls: Tensor,
    places: Int[Tensor, "b"], noise: Tensor,
) -> Tensor:  # fmt: skip
    """Distance of the clean latents predicted at t from those predicted one step of the teacher further down.

    f(z, t) is the network's clean latents, and z itself without noise (Luo et al. 2023, arXiv:2310.04378, Eq. 14; their
    skip connection is below 1e-5 from the first timestep on). The networks compute in bfloat16.

    Args:
        student: Predicts the velocity, with gradient.
        teacher: Predicts the velocity.
        alphas: Signal variance of every timestep.
        sample: Its latents.
        embeds: Of its texts.
        nulls: Of the empty text, as many.
        places: Of the timesteps in ``grid``.
        noise: Standard normal.
    """
    steps = grid(len(alphas))
    t, then = steps[places], steps[(places - 1).clamp(min=0)]
    is_last = (places == 0).view(-1, 1, 1, 1)
    signal, noise_level = (each.view(-1, 1, 1, 1) for each in (alphas[t].sqrt(), (1 - alphas[t]).sqrt()))
    noisy = signal * sample.latents + noise_level * noise

    def clean(network: nn.Module, latents: Tensor, at: Tensor, texts: Tensor) -> Tensor:
        abar = alphas[at].view(-1, 1, 1, 1)
        with torch.autocast("cpu", torch.bfloat16):
            velocity = network(latents, at, texts).sample.float()
        return abar.sqrt() * latents - (1 - abar).sqrt() * velocity

    with torch.no_grad():
        both = clean(teacher, noisy.repeat(2, 1, 1, 1), t.repeat(2), torch.cat([embeds, nulls]))
        cond, null = both.chunk(2)
        guided = null + GUIDANCE_SCALE * (cond - null)
        eps = (noisy - signal * guided) / noise_level
        abar = alphas[then].view(-1, 1, 1, 1)
        further = abar.sqrt() * guided + (1 - abar).sqrt() * eps
        target = torch.where(is_last, guided, clean(student, further, then, embeds))
    difference = clean(student, noisy, t, embeds) - target
    return ((difference.square() + HUBER**2).sqrt() - HUBER).mean()


def train(worker: Worker, data_folder: Path, base: Path, work: Path, recipe: Recipe = RECIPE) -> Training:
    """Distil; checkpoint and log are ``work/lcm.*``.

    Args:
        worker: This process.
        data_folder: What ``write_scene_shards`` wrote.
        base: Folder of the model that is the teacher and that the LoRA is for.
        work: Where its autoencoder, the latents, checkpoint and log go.
        recipe: Steps and rates.
    """
    pipeline, data = load_base(base), load_toy_data(data_folder, is_held_out=False)
    if worker.is_first:
        start.copy_autoencoder(base, work)
    worker.wait_for_all()
    posteriors = cached_posteriors(worker, pipeline.vae, data, work)
    batches = LatentBatches(data, posteriors, pipeline.vae.config.scaling_factor, pipeline.tokenizer)
    teacher, text_encoder = (each.requires_grad_(False).eval() for each in (pipeline.unet, pipeline.text_encoder))
    student = with_lora(load_base(base).unet, recipe.seed)
    alphas = pipeline.scheduler.alphas_cumprod
    null = text_encoder(token_ids(pipeline.tokenizer, [""])).last_hidden_state

    def loss(step: int, generator: torch.Generator) -> Tensor:
        sample = batches.batch(recipe.batch_size, generator)
        places = torch.from_numpy(numpy_generator(generator).integers(NUM_TIMESTEPS, size=recipe.batch_size))
        noise = torch.randn(sample.latents.shape, generator=generator)
        with torch.no_grad():
            embeds = text_encoder(sample.tokens).last_hidden_state
        nulls = null.expand(len(embeds), -1, -1)
        return consistency_loss(student, teacher, alphas, sample, embeds, nulls, places, noise)

    return fit({"unet": student}, loss, recipe, work / "lcm.ckpt", worker, report_every=100)


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
    how = f"{recipe.describe()};\nrank {RANK}, {NUM_TIMESTEPS} timesteps, guidance {GUIDANCE_SCALE:g} of the teacher.\n"
    write_readme(out, "tiny-lcm", ABOUT, f"{how}{seconds / 60:.0f} min of training.")
