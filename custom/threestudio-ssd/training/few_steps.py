"""How many evaluations a sample needs: the embedded model with guidance, and beside it its few-step sibling."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import LCMScheduler
from jaxtyping import Float
from torch import Tensor

from ..diffusion import Backbone, load_backbone
from ..files import write_json
from ..toyworld import sample_attributes
from ..toyworld.captions import describe
from .consistency import TIMESTEPS
from .quality import BATCH, HELD_OUT_SEED, hit_rates, sample
from .unet import make_scheduler

SIBLING_STEPS = (1, 2, 3, 4)
TEACHER_STEPS = (1, 2, 4, 8, 20)


def measure(model: str, lora: str, out: Path, *, num_prompts: int, guidance_scale: float) -> list[dict[str, Any]]:
    """Read samples of few steps with the classifier; writes ``few-steps.json``.

    Args:
        model: Folder of the model.
        lora: File that makes it its few-step sibling.
        out: Where the report goes.
        num_prompts: Random full prompts, one sample each.
        guidance_scale: Of the model; its sibling has it in the weights.

    Returns:
        A row for each sampler and number of steps: evaluations a sample, and shares of right attributes.
    """
    rng = np.random.default_rng(HELD_OUT_SEED)
    wanted = [sample_attributes(rng) for _ in range(num_prompts)]
    prompts, rows = [describe(each) for each in wanted], []
    teacher, sibling = load_backbone(model), load_backbone(model, lora=lora)
    for name, backbone, counts in (("sibling", sibling, SIBLING_STEPS), ("teacher", teacher, TEACHER_STEPS)):
        for steps in counts:
            backbone.counters.reset()
            if backbone is sibling:
                images = consistent_samples(backbone, prompts, steps)
            else:
                images = sample(backbone, prompts, guidance_scale, steps)
            evaluations = backbone.counters.rows // num_prompts
            rows.append({"model": name, "steps": steps, "evaluations": evaluations, **hit_rates(images, wanted)})
    write_json(out / "few-steps.json", rows)
    return rows


@torch.no_grad()
def consistent_samples(backbone: Backbone, prompts: list[str], num_steps: int) -> Float[Tensor, "b 3 h w"]:
    """Images by multistep consistency sampling (Luo et al. 2023, arXiv:2310.04378, Algorithm 3) from seeded noise.

    Args:
        backbone: The few-step sibling of the embedded model.
        prompts: One for each image.
        num_steps: 1 to 4.
    """
    side, images = backbone.image_size // backbone.downscale, []
    scheduler: Any = LCMScheduler.from_config(
        make_scheduler().config, prediction_type="epsilon", original_inference_steps=len(TIMESTEPS)
    )
    for start in range(0, len(prompts), BATCH):
        embeds = backbone.encode_prompts(prompts[start : start + BATCH])
        generator = torch.Generator().manual_seed(HELD_OUT_SEED + start)
        latents = clean = torch.randn(len(embeds), backbone.latent_channels, side, side, generator=generator)
        scheduler.set_timesteps(num_steps)
        for timestep in scheduler.timesteps:
            eps = backbone.predict_noise(latents, timestep, embeds)
            latents, clean = scheduler.step(eps, timestep, latents, generator, return_dict=False)
        images.append(backbone.decode(clean))
    return torch.cat(images)
