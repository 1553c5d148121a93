"""A model family in one file outside the package: its own network, its own conditioning, two text networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from threestudio_ssd.diffusion import PromptEmbeds
from threestudio_ssd.diffusion.families import Family, register_family
from threestudio_ssd.diffusion.prompts import TextEncoders


class PlainMixer(ModelMixin, ConfigMixin):
    """Mixes the latents' channels, the time, the mean token and the size of the image. Predicts v."""

    @register_to_config
    def __init__(self, channels: int = 4, cells: int = 8, token_width: int = 64) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, 4, 3, padding=1)
        self.condition = nn.Linear(token_width + 2, 4)

    def forward(self, noisy: Tensor, *, tokens: Tensor, time: Tensor, pixels: int) -> Tensor:
        times = (time / 1000).to(tokens)[:, None]
        size = torch.full_like(times, pixels / 64)
        return self.mix(noisy) + self.condition(torch.cat([tokens.mean(1), times, size], dim=1))[:, :, None, None]


@dataclass(frozen=True)
class MadeUp(Family):
    """Tokens of two CLIPs side by side; the network is told how wide the image is."""

    name: ClassVar[str] = "made-up"
    pipelines: ClassVar[tuple[str, ...]] = ("MadeUpPipeline",)
    network_part: ClassVar[str] = "mixer"
    text_parts: ClassVar[tuple[str, ...]] = ("text_encoder", "text_encoder_2")
    clip_heads: ClassVar[tuple[bool, ...]] = (False, False)
    half_dtype: ClassVar[torch.dtype] = torch.bfloat16
    classes: ClassVar[Mapping[str, type]] = {"PlainMixer": PlainMixer}

    def embed(self, texts: TextEncoders, prompts: Sequence[str], network: Any) -> PromptEmbeds:
        return PromptEmbeds(torch.cat([texts.clip(index, prompts).hidden for index in range(2)], dim=-1))

    def predict(self, network, config, latents, times: Tensor, prompts: PromptEmbeds, downscale: int) -> Tensor:
        return network(latents, tokens=prompts.hidden, time=times, pixels=latents.shape[-1] * downscale)

    def make_network(self, config: Mapping[str, Any]) -> nn.Module:
        return PlainMixer(**config)

    def tiny_config(self, in_channels: int, num_cells: int) -> dict[str, Any]:
        return {"channels": in_channels, "cells": num_cells}

    def prompt_widths(self, network: Any) -> tuple[int, int | None]:
        return network.config.token_width, None

    def num_channels(self, network: Any) -> tuple[int, int]:
        return network.config.channels, 4

    def num_cells(self, network: Any) -> int:
        return network.config.cells

    def cell_multiple(self, network: Any) -> int:
        return 2


MADE_UP = register_family(MadeUp())
