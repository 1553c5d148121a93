"""The LoRA network of a variational score at work: its predictions and its own training, in one network call."""

from collections.abc import Mapping, Sequence
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


@dataclass
class LoraNetworkConfig:
    """Keys of the LoRA network of VSD (arXiv:2305.16213); read by vsd and piva alone."""

    rank: int = 4
    """Of the changes to the attention layers, >= 1."""
    learning_rate: float = 1.0e-4
    """Of AdamW, > 0."""


class VariationalTerm:
    """Predicts with the LoRA and trains it by one step of ordinary denoising.

    A prompt learns from its own images: the target's from latents of the edit as they are, the source's from those of
    the source.

    The loss is that of what the network predicts: the error of the noise, or of the velocity.

    Predictions and training samples share a call, since all of them run with the LoRA as it was before the step; the
    frozen predictions cannot join it, for they run without.

    Args:
        cfg: Keys.
        backbone: Gets the LoRA.
        branches: The predictions that the score reads of it.

    Raises:
        ConfigError: If a value is out of range.
        MissingPackageError: If peft is not installed.
    """

    def __init__(self, cfg: LoraNetworkConfig | DictConfig, backbone: Backbone, branches: Sequence[Branch]) -> None:
        check_values("system.guidance.lora_network", cfg, LoraNetworkConfig, {
            "rank": (cfg.rank >= 1, "at least 1"),
            "learning_rate": (cfg.learning_rate > 0, "above 0"),
        })  # fmt: skip
        self.backbone, self.branches = backbone, tuple(branches)
        self.lora = TrainableLora(backbone, rank=cfg.rank, learning_rate=cfg.learning_rate)

    def __call__(
        self, inputs: ScoreInputs, prompts: Mapping[str, PromptEmbeds], generator: torch.Generator
    ) -> dict[Branch, Float[Tensor, "b c zh zw"]]:
        """The LoRA's predictions; afterwards the LoRA has learned a step.

        Args:
            inputs: Latents and timesteps of the step.
            prompts: b rows each, by name.
            generator: Draws timesteps in [0, T) and noise of the training samples.
        """
        backbone, names = self.backbone, [branch.prompt for branch in self.branches]
        clean = [inputs.latents_src if name == "src" else inputs.latents_tgt for name in dict.fromkeys(names)]
        count = len(names) * len(inputs.timesteps)
        latents = torch.cat(clean)
        own_timesteps = torch.randint(backbone.num_timesteps, (len(latents),), generator=generator)
        own_timesteps = own_timesteps.to(inputs.timesteps)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        noisy = [inputs.latents_noisy[branch.latents] for branch in self.branches]
        rows = torch.cat([*noisy, backbone.add_noise(latents, noise, own_timesteps)])
        timesteps = torch.cat([inputs.timesteps.repeat(len(names)), own_timesteps])
        texts = PromptEmbeds.cat([prompts[name] for name in (*names, *dict.fromkeys(names))])
        with self.lora.active(), torch.enable_grad():
            eps = backbone.predict_noise(rows, timesteps, texts, with_grad=True)
            error = (eps[count:] - noise).pow(2).flatten(1).mean(dim=1)
            if backbone.prediction_type == "v_prediction":  # the error of v is that of eps over sqrt(abar)
                error = error / backbone.alphas_cumprod.to(error)[own_timesteps]
            self.lora.update(error.mean())
        return dict(zip(self.branches, eps[:count].detach().chunk(len(names)), strict=True))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return self.lora.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.lora.load_state_dict(state)
