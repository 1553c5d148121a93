"""Score distillation sampling."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from .branches import Branch, Predictions, guidance_branches, guided_prediction
from .score import Score, ScoreInputs

Weighting = Literal["sigma2", "uniform", "fantasia3d"]


def noise_weight(weighting: Weighting, alphas_cumprod: Float[Tensor, "b 1 1 1"]) -> Float[Tensor, "b 1 1 1"]:
    """w(t): the noise variance 1 - abar (DreamFusion), 1, or sqrt(abar) (1 - abar) (Chen et al. 2023, Fantasia3D)."""
    if weighting == "uniform":
        return torch.ones_like(alphas_cumprod)
    variance = 1 - alphas_cumprod
    return variance if weighting == "sigma2" else alphas_cumprod.sqrt() * variance


@dataclass(frozen=True)
class SDS(Score):
    """Score distillation sampling (Poole et al. 2022, arXiv:2209.14988, Eq. 3): w(t) (eps^s(z, y) - noise).

    Does not vanish anywhere in general: the noise is random, the prediction is not; only its mean over noise can.
    """

    guidance_scale: float = 100.0
    """s; 100 in the paper for text-to-3D, 7.5 for editing."""
    weighting: Weighting = "sigma2"
    """w(t), see ``noise_weight``."""

    @property
    def branches(self) -> tuple[Branch, ...]:
        return guidance_branches("tgt", "tgt", self.guidance_scale)

    def evaluate(self, eps: Predictions, inputs: ScoreInputs) -> Float[Tensor, "b c zh zw"]:
        difference = guided_prediction(eps, "tgt", "tgt", self.guidance_scale) - inputs.noise
        return noise_weight(self.weighting, inputs.alphas_cumprod) * difference
