"""A background that losses keep: RePaint-NeRF (Zhou et al. 2023, arXiv:2306.05668), ED-NeRF (Park et al. 2023)."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ConfigError, check_values
from ..metrics import clip_beside, read_clip
from .inward import inward_clamp

GREY = 0.5
"""What stands in the crop of the background where the object is, in [0, 1]."""


@dataclass
class BackgroundConfig:
    """Keys of how what the mask leaves out is kept: its bytes, or by losses while everything moves."""

    moves: bool = False
    """Whether what the mask leaves out moves as well, and only the losses below hold it; false: it keeps its bytes."""
    lambda_mse: float = 0.0
    """Weight of the squared change of the background's pixels, a sum over them as the score is one over latent cells,
    >= 0; 100 in RePaint-NeRF."""
    lambda_clip: float = 0.0
    """Weight of the background's CLIP cosine with ``prompt``, >= 0; 0.01 in RePaint-NeRF."""
    lambda_latent: float = 0.0
    """Weight of the mean squared change of the latent cells where nothing shows of what the mask takes, >= 0; that of
    ED-NeRF (arXiv:2310.02712) is not published."""
    prompt: str = ""
    """What the background shows."""
    threshold: float = 0.5
    """A pixel of which the mask takes less is background, in (0, 1)."""


def check_keeping(cfg: Any) -> None:
    """Refuse what cannot be.

    Args:
        cfg: Keys of ``SceneEditConfig``, with ``keep``.

    Raises:
        ConfigError: For the first key.
    """
    keep = cfg.keep
    check_values("system.keep", keep, BackgroundConfig, {
        "lambda_mse": (0 <= keep.lambda_mse < float("inf"), "at least 0, and finite"),
        "lambda_clip": (0 <= keep.lambda_clip < float("inf"), "at least 0, and finite"),
        "lambda_latent": (0 <= keep.lambda_latent < float("inf"), "at least 0, and finite"),
        "threshold": (0 < keep.threshold < 1, "between 0 and 1"),
    })  # fmt: skip
    if keep.lambda_clip and not keep.prompt.strip():
        expected, fix = "what the background shows", 'set system.keep.prompt="grass", or system.keep.lambda_clip=0'
        raise ConfigError(what="system.keep.prompt is empty", expected=expected, fix=fix)
    if keep.moves and cfg.seeds.count:
        expected, fix = "false: only seeds and selection move", "set system.keep.moves=false"
        raise ConfigError(what="system.keep.moves is true, and there are seeds", expected=expected, fix=fix)


class KeptBackground:
    """What changes of the background cost.

    Args:
        cfg: Keys of ``SceneEditConfig``, with ``keep``.
        device: Where the edit runs.

    Raises:
        ConfigError: If the CLIP cannot be loaded.
    """

    def __init__(self, cfg: Any, device: torch.device) -> None:
        self.cfg, self.clip = cfg.keep, None
        if self.cfg.lambda_clip:
            name = clip_beside(cfg.guidance.get("model", "")) if cfg.clip_model == "auto" else cfg.clip_model
            self.clip = read_clip(name, str(device), bool(cfg.guidance.get("offline", False)))
            with torch.no_grad():
                self.text = self.clip.embed_texts([self.cfg.prompt])

    @staticmethod
    def of(cfg: Any, device: torch.device) -> "KeptBackground | None":
        """What the keys ask for; None if nothing."""
        return KeptBackground(cfg, device) if cfg.keep.lambda_mse or cfg.keep.lambda_clip else None

    def __call__(
        self,
        images: Float[Tensor, "b 3 h w"],
        sources: Float[Tensor, "b 3 h w"],
        coverages: Float[Tensor, "b 1 h w"],
    ) -> Float[Tensor, ""]:
        """The loss, a sum over views.

        Args:
            images: Renders, not clamped.
            sources: The same views before the edit.
            coverages: How much of each pixel the mask takes.
        """
        is_background = coverages < self.cfg.threshold
        change = (images - sources).square().mean(dim=1, keepdim=True) * is_background
        loss = self.cfg.lambda_mse * change.sum()  # a mean would count the less the larger the pictures are
        if self.clip is None:
            return loss
        crop = torch.where(is_background, inward_clamp(images), GREY)
        cosines = (self.clip.embed_prepared(self.clip.prepare(crop)) * self.text).sum(dim=-1)
        return loss - self.cfg.lambda_clip * cosines.sum()


def latent_change(
    latents: Float[Tensor, "b c zh zw"], latents_src: Float[Tensor, "b c zh zw"], masks: Float[Tensor, "b 1 zh zw"]
) -> Float[Tensor, ""]:
    """Mean squared change of the latents outside of masks, a sum over views.

    Args:
        latents: Of the edit.
        latents_src: Of the same views of the source.
        masks: 1 where the edit may act.
    """
    outside = 1 - masks
    change = (latents - latents_src).square().mean(dim=1, keepdim=True) * outside
    return (change.sum(dim=(1, 2, 3)) / outside.sum(dim=(1, 2, 3)).clamp_min(1)).sum()
