"""What the families with a U-Net share: the call of the network, its tiny twin, the layer names of LoRA files."""

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from ..prompts import PromptEmbeds
from .family import TINY_WIDTH, Family


@dataclass(frozen=True)
class UNetFamily(Family):
    """A family whose network is a ``UNet2DConditionModel``."""

    def conditions(self, latents: Float[Tensor, "b c zh zw"], prompts: PromptEmbeds, downscale: int) -> dict[str, Any]:
        """Keyword arguments of the network beyond the tokens."""
        return {}

    def predict(
        self, network: Any, config: Any, latents: Tensor, times: Tensor, prompts: PromptEmbeds, downscale: int
    ) -> Tensor:
        """One forward pass; a distilled LCM is told that there is no guidance."""
        extra = self.conditions(latents, prompts, downscale)
        if width := config.time_cond_proj_dim:
            extra["timestep_cond"] = _no_guidance(latents, width)
        return network(latents, times, prompts.hidden, return_dict=False, **extra)[0]

    def make_network(self, config: Mapping[str, Any]) -> nn.Module:
        """A U-Net of random weights."""
        from diffusers import UNet2DConditionModel

        return UNet2DConditionModel(**config)

    def tiny_config(self, in_channels: int, num_cells: int) -> dict[str, Any]:
        """Three levels, cross-attention at the lower two."""
        return {
            "sample_size": num_cells,
            "in_channels": in_channels,
            "out_channels": 4,
            "block_out_channels": (16, 24, 32),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "layers_per_block": 1,
            "norm_num_groups": 8,
            "attention_head_dim": 2,
            "cross_attention_dim": TINY_WIDTH * len(self.text_parts),
        }

    def prompt_widths(self, network: Any) -> tuple[int, int | None]:
        """Tokens alone."""
        return network.config.cross_attention_dim, None

    def pipeline_of(self, network: Any, has_image_condition: bool) -> str:
        """Text to image, or InstructPix2Pix."""
        return next(name for name in self.pipelines if ("InstructPix2Pix" in name) == has_image_condition)

    def lora_layer(self, name: str, network: Any) -> str:
        """Layers may be named as in the original Stability code."""
        return diffusers_name(name, network.config.get("layers_per_block", 2))


def _no_guidance(latents: Float[Tensor, "b c zh zw"], width: int) -> Float[Tensor, "b d"]:
    """A distilled LCM's embedding of guidance scale 1 (Luo et al. 2023): sin(0) and cos(0)."""
    embedding = latents.new_zeros(len(latents), width)
    embedding[:, width // 2 :] = 1
    return embedding


def diffusers_name(name: str, per_level: int | Sequence[int]) -> str:
    """The flat diffusers name of a U-Net layer that is named as in the original Stability code (SDXL files).

    The original counts all down (``input_blocks``) and up blocks (``output_blocks``) in one row, ``per_level`` residual
    blocks and a down-sampler at each level (up: one more block and the up-sampler inside the last). Where levels
    differ, ``per_level`` lists them from the finest on.
    """
    match = re.fullmatch(r"(input_blocks|output_blocks|middle_block)_(\d+)_(.*)", name)
    if match is None:
        return {"time_embed_0": "time_embedding_linear_1", "time_embed_2": "time_embedding_linear_2"}.get(name, name)
    side, number, rest = match[1], int(match[2]), match[3]
    if side == "middle_block":
        return f"mid_block_attentions_0_{rest}" if number == 1 else f"mid_block_resnets_{number // 2}_{_resnet(rest)}"
    if side == "input_blocks" and number == 0:
        return "conv_in"
    level, index = _level_and_index(number - (side == "input_blocks"), per_level, is_up=side == "output_blocks")
    block = f"{'down' if side == 'input_blocks' else 'up'}_blocks_{level}"
    slot, _, rest = rest.partition("_")
    if rest == "op":
        return f"{block}_downsamplers_0_conv"
    if rest == "conv":
        return f"{block}_upsamplers_0_conv"
    return f"{block}_attentions_{index}_{rest}" if slot == "1" else f"{block}_resnets_{index}_{_resnet(rest)}"


def _level_and_index(row: int, per_level: int | Sequence[int], *, is_up: bool) -> tuple[int, int]:
    """The level that counts a row of blocks, and the block's place in it; up blocks count from the coarsest level."""
    if isinstance(per_level, int):
        return divmod(row, per_level + 1)
    ends = list(accumulate(count + 1 for count in (reversed(per_level) if is_up else per_level)))
    level = bisect_right(ends, row)
    return level, row - (ends[level - 1] if level else 0)


def _resnet(name: str) -> str:
    names = {"in_layers_2": "conv1", "out_layers_3": "conv2", "emb_layers_1": "time_emb_proj"}
    return (names | {"skip_connection": "conv_shortcut"}).get(name, name)
