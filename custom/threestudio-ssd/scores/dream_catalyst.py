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

    The text-conditioned delta, for Stable Diffusion; the authors' form on InstructPix2Pix, with five predictions, is
    not here. Clean latents in the ID term. Zero on a null edit.
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
        edit_weight = self.delta + self.gamma * inputs.t_frac ** (1 / math.e)
        pull = identity(self.id_weight, inputs.latents_tgt, inputs.latents_src, inputs.t_frac)
        return edit_weight * DDS(self.guidance_scale)(eps) + pull
