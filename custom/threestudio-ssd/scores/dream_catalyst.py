"""DreamCatalyst."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .branches import Branch, Predictions
from .dds import DDS
from .score import Score, ScoreInputs
from .ssd import identity


@dataclass(frozen=True)
class DreamCatalyst(Score):
    """DreamCatalyst (Kim et al. 2024, arXiv:2407.11394): (delta + gamma t^(1/e)) delta-eps^s + w exp(t) (z - z_src).

    The text-conditioned delta, for Stable Diffusion; the authors' released form reads InstructPix2Pix, see
    ``DreamCatalystInstructPix2Pix``. Clean latents in the ID term. Zero on a null edit.
    """

    guidance_scale: float = 7.5
    """s, the same on both sides."""
    delta: float = 0.2
    """Constant part of the edit weight."""
    gamma: float = 0.8
    """Part of the edit weight that grows with t."""
    id_weight: float = 0.075
    """Weight of the ID term."""

    @property
    def branches(self) -> tuple[Branch, ...]:
        return DDS(self.guidance_scale).branches

    def evaluate(self, eps: Predictions, inputs: ScoreInputs) -> Float[Tensor, "b c zh zw"]:
        pull = identity(self.id_weight, inputs.latents_tgt, inputs.latents_src, inputs.t_frac)
        return edit_weight(self.delta, self.gamma, inputs.t_frac) * DDS(self.guidance_scale)(eps) + pull


def edit_weight(delta: float, gamma: float, t_frac: Float[Tensor, "b 1 1 1"]) -> Float[Tensor, "b 1 1 1"]:
    """Weight of the edit's part, delta + gamma t^(1/e)."""
    return delta + gamma * t_frac ** (1 / math.e)
