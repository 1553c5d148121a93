"""Stable Diffusion XL and SDXL-Turbo: a U-Net that reads the tokens of two CLIPs, a pooled embedding and sizes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..prompts import PromptEmbeds, TextEncoders
from .family import TINY_WIDTH
from .unet import UNetFamily


@dataclass(frozen=True)
class StableDiffusionXL(UNetFamily):
    """Podell et al. 2023, arXiv:2307.01952."""

    name: ClassVar[str] = "sdxl"
    pipelines: ClassVar[tuple[str, ...]] = (
        "StableDiffusionXLPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInstructPix2PixPipeline",
    )
    text_parts: ClassVar[tuple[str, ...]] = ("text_encoder", "text_encoder_2")
    clip_heads: ClassVar[tuple[bool, ...]] = (False, True)
    taesd: ClassVar[str] = "taesdxl"
    latent_scale: ClassVar[float] = 0.13025

    def embed(self, texts: TextEncoders, prompts: Sequence[str], network: Any) -> PromptEmbeds:
        """The last layers but one side by side, and the second CLIP's pooled embedding."""
        first, second = (texts.clip(index, prompts) for index in range(2))
        embeds = PromptEmbeds(torch.cat([first.hidden, second.hidden], dim=-1), second.pooled)
        return texts.with_empty_rows_zero(embeds, prompts) if texts.zero_empty_prompts else embeds

    def conditions(self, latents: Float[Tensor, "b c zh zw"], prompts: PromptEmbeds, downscale: int) -> dict[str, Any]:
        """The pooled embedding, and the sizes: original, crop, target (section 2.2)."""
        height, width = (side * downscale for side in latents.shape[-2:])
        sizes = torch.tensor([[height, width, 0, 0, height, width]], device=latents.device, dtype=torch.float32)
        return {"added_cond_kwargs": {"text_embeds": prompts.pooled, "time_ids": sizes.expand(len(latents), 6)}}

    def tiny_config(self, in_channels: int, num_cells: int) -> dict[str, Any]:
        """The U-Net's, with the additional embedding."""
        return super().tiny_config(in_channels, num_cells) | {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": TINY_WIDTH + 6 * 8,
        }

    def prompt_widths(self, network: Any) -> tuple[int, int | None]:
        """The pooled embedding and six embedded sizes enter one layer together."""
        config = network.config
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        return config.cross_attention_dim, pooled

    def index_entries(self, zero_empty_prompts: bool) -> dict[str, Any]:
        """Whether an empty prompt is all zeros, as SDXL base was trained with."""
        return {"force_zeros_for_empty_prompt": zero_empty_prompts}


SDXL = StableDiffusionXL()
