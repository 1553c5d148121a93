"""Stable score distillation: the paper's own score."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .branches import Branch, Predictions, needed, weighted
from .score import Score, ScoreInputs


@dataclass(frozen=True)
class SSD(Score):
    """Stable score distillation (Zhu et al. 2025, arXiv:2507.09168, Eqs. 6-9).

    Cross-prompt w_p (eps(z, y) - eps(z, y_src)), cross-trajectory w_t (eps(z, y_src) - eps(z_src, null)), prompt
    enhancement w_e (eps(z, y) - eps(z, null)), and the ID term w_id exp(t) (z_t - z_src_t) on noisy latents.
    On a null edit (z = z_src, y = y_src) it does not vanish: (w_t + w_e) (eps(z, y) - eps(z, null)) remains.
    The defaults are the released code's effective weights; `ssd_paper` has the paper's own.
    """

    cross_prompt_weight: float = 3.75
    """w_p: 7.5 in the paper; the released code halves it."""
    cross_trajectory_weight: float = 1.0
    """w_t: 2.0 in the paper; the released code halves it."""
    enhance_weight: float = 5.5
    """w_e; at 0 one branch less is evaluated."""
    id_weight: float = 0.075
    """w_id; times exp(t / T), and by the shared noise sqrt(alphas_cumprod) (z - z_src): strongest at small t."""

    @property
    def weights(self) -> dict[Branch, float]:
        """Coefficient of each prediction; they sum to zero."""
        w_p, w_t, w_e = self.cross_prompt_weight, self.cross_trajectory_weight, self.enhance_weight
        return {
            Branch("tgt", "tgt"): w_p + w_e,
            Branch("tgt", "src"): w_t - w_p,
            Branch("tgt", "null"): -w_e,
            Branch("src", "null"): -w_t,
        }

    @property
    def branches(self) -> tuple[Branch, ...]:
        return needed(self.weights)

    def evaluate(self, eps: Predictions, inputs: ScoreInputs) -> Float[Tensor, "b c zh zw"]:
        score = weighted(eps, self.weights)
        if self.id_weight == 0:
            return score
        return score + noisy_identity(self.id_weight, inputs)


def identity(
    weight: float,
    latents_tgt: Float[Tensor, "b c zh zw"],
    latents_src: Float[Tensor, "b c zh zw"],
    t_frac: Float[Tensor, "b 1 1 1"],
) -> Float[Tensor, "b c zh zw"]:
    """ID regularisation weight exp(t) (z - z_src): Eq. 8 of SSD on noisy latents, DreamCatalyst's on clean ones."""
    return weight * torch.exp(t_frac) * (latents_tgt - latents_src)


def noisy_identity(weight: float, inputs: ScoreInputs) -> Float[Tensor, "b c zh zw"]:
    """``identity`` on noisy latents."""
    return identity(weight, inputs.latents_noisy_tgt, inputs.latents_noisy_src, inputs.t_frac)


def ssd_paper() -> SSD:
    """The weights of the paper's equations, without the released code's halves.

    The ID term is the code's: the paper calls its weight a decreasing function of t and gives none.
    """
    return SSD(cross_prompt_weight=7.5, cross_trajectory_weight=2.0, enhance_weight=5.5)
