"""The LoRA network of VSD at work: its prediction for the score and its own training, in one network call."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor

from ..diffusion import Backbone, PromptEmbeds
from ..diffusion.adapter import TrainableLora
from ..errors import check_values
from ..scores import Branch, ScoreInputs
from ..scores.vsd import LORA


@dataclass
class LoraNetworkConfig:
    """Keys of the LoRA network of VSD (arXiv:2305.16213); read by that score alone."""

    rank: int = 4
    """Of the changes to the attention layers, >= 1."""
    learning_rate: float = 1.0e-4
    """Of AdamW, > 0."""


class VariationalTerm:
    """Predicts with the LoRA and trains it by one step of ordinary denoising, on latents of the edit as they are.

    The loss is that of what the network predicts: the error of the noise, or of the velocity.

    The prediction and the training sample share a call, since both run with the LoRA as it was before the step; the
    frozen predictions cannot join it, for they run without.

    Args:
        cfg: Keys.
        backbone: Gets the LoRA.

    Raises:
        ConfigError: If a value is out of range.
        MissingPackageError: If peft is not installed.
    """

    def __init__(self, cfg: LoraNetworkConfig | DictConfig, backbone: Backbone) -> None:
        check_values("system.guidance.lora_network", cfg, LoraNetworkConfig, {
            "rank": (cfg.rank >= 1, "at least 1"),
            "learning_rate": (cfg.learning_rate > 0, "above 0"),
        })  # fmt: skip
        self.backbone = backbone
        self.lora = TrainableLora(backbone, rank=cfg.rank, learning_rate=cfg.learning_rate)

    def __call__(
        self, inputs: ScoreInputs, prompts: Mapping[str, PromptEmbeds], generator: torch.Generator
    ) -> dict[Branch, Float[Tensor, "b c zh zw"]]:
        """The LoRA's prediction; afterwards the LoRA has learned a step.

        Args:
            inputs: Latents and timesteps of the step.
            prompts: b rows each, by name.
            generator: Draws timesteps in [0, T) and noise of the training sample.
        """
        latents, timesteps = inputs.latents_tgt, inputs.timesteps
        size = len(latents)
        own_timesteps = torch.randint(self.backbone.num_timesteps, (size,), generator=generator).to(timesteps)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        rows = torch.cat([inputs.latents_noisy[LORA.latents], self.backbone.add_noise(latents, noise, own_timesteps)])
        with self.lora.active(), torch.enable_grad():
            eps = self.backbone.predict_noise(
                rows, torch.cat([timesteps, own_timesteps]), prompts[LORA.prompt].repeat(2), with_grad=True
            )
            error = (eps[size:] - noise).pow(2).flatten(1).mean(dim=1)
            if self.backbone.prediction_type == "v_prediction":  # the error of v is that of eps over sqrt(abar)
                error = error / self.backbone.alphas_cumprod.to(error)[own_timesteps]
            self.lora.update(error.mean())
        return {LORA: eps[:size].detach()}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return self.lora.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.lora.load_state_dict(state)
