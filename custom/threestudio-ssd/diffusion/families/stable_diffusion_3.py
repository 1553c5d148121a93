"""Stable Diffusion 3.x: a transformer that predicts a rectified flow and reads two CLIPs and a T5 in one sequence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..prompts import PromptEmbeds, TextEncoders
from .family import TINY_WIDTH, Family

NUM_T5_TOKENS = 256


@dataclass(frozen=True)
class StableDiffusion3(Family):
    """Esser et al. 2024, arXiv:2403.03206. Its activations are large: in half precision it takes bfloat16."""

    name: ClassVar[str] = "sd3"
    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusion3Pipeline",)
    network_part: ClassVar[str] = "transformer"
    text_parts: ClassVar[tuple[str, ...]] = ("text_encoder", "text_encoder_2", "text_encoder_3")
    optional_parts: ClassVar[frozenset[str]] = frozenset({"text_encoder_3"})
    clip_heads: ClassVar[tuple[bool, ...]] = (True, True)
    taesd: ClassVar[str] = "taesd3"
    latent_scale: ClassVar[float] = 1.5305
    half_dtype: ClassVar[torch.dtype] = torch.bfloat16
    is_flow: ClassVar[bool] = True

    def embed(self, texts: TextEncoders, prompts: Sequence[str], network: Any) -> PromptEmbeds:
        """The CLIPs' last layers but one side by side, padded to the T5's width, then the T5's tokens (or zeros)."""
        first, second = (texts.clip(index, prompts) for index in range(2))
        hidden = torch.cat([first.hidden, second.hidden], dim=-1)
        width = network.config.joint_attention_dim
        hidden = nn.functional.pad(hidden, (0, width - hidden.shape[-1]))
        if (t5 := texts.networks[2]) is None:
            tokens = hidden.new_zeros(len(prompts), NUM_T5_TOKENS, width)
        else:
            tokens = t5(texts.token_ids(2, prompts)).last_hidden_state.float()
        pooled = [clip.pooled for clip in (first, second) if clip.pooled is not None]
        return PromptEmbeds(torch.cat([hidden, tokens], dim=1), torch.cat(pooled, dim=-1))

    def predict(
        self, network: Any, config: Any, latents: Tensor, times: Tensor, prompts: PromptEmbeds, downscale: int
    ) -> Tensor:
        """One forward pass with tokens and pooled embedding."""
        return network(latents, prompts.hidden, prompts.pooled, times, return_dict=False)[0]

    def make_network(self, config: Mapping[str, Any]) -> nn.Module:
        """A transformer of random weights."""
        from diffusers import SD3Transformer2DModel

        return SD3Transformer2DModel(**config)

    def tiny_config(self, in_channels: int, num_cells: int) -> dict[str, Any]:
        """Two joint layers."""
        return {
            "sample_size": num_cells,
            "patch_size": 2,
            "in_channels": in_channels,
            "out_channels": 4,
            "num_layers": 2,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "joint_attention_dim": 2 * TINY_WIDTH,
            "caption_projection_dim": 16,
            "pooled_projection_dim": 2 * TINY_WIDTH,
            "pos_embed_max_size": 32,
        }

    def prompt_widths(self, network: Any) -> tuple[int, int | None]:
        """Of the joint sequence, and of both CLIPs' pooled embeddings together."""
        return network.config.joint_attention_dim, network.config.pooled_projection_dim


SD3 = StableDiffusion3()
