"""Noise-free score distillation."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .branches import Branch, Predictions, needed, weighted
from .score import Score, ScoreInputs

NEG = Branch("tgt", "neg")


@dataclass(frozen=True)
class NFSD(Score):
    """Noise-free score distillation (Katzir et al. 2023, arXiv:2310.17590): delta_D + s delta_C.

    delta_C = eps(z, y) - eps(z, null); delta_D = eps(z, null), less eps(z, neg) from ``domain_timestep`` on.
    Does not vanish in general; with y = null = neg it does at and above ``domain_timestep``.
    """

    guidance_scale: float = 7.5
    """s."""
    domain_timestep: int = 200
    """Below it the unconditional prediction itself is taken for the domain correction."""

    @property
    def weights(self) -> dict[Branch, float]:
        """Coefficient of each prediction at and above ``domain_timestep``; below it ``neg`` drops out."""
        s = self.guidance_scale
        return {Branch("tgt", "tgt"): s, Branch("tgt", "null"): 1 - s, NEG: -1.0}

    @property
    def branches(self) -> tuple[Branch, ...]:
        return needed(self.weights)

    def branches_at(self, inputs: ScoreInputs) -> tuple[Branch, ...]:
        """The branches that have a coefficient at the step's timesteps."""
        if (inputs.timesteps < self.domain_timestep).all():
            return tuple(branch for branch in self.branches if branch != NEG)
        return self.branches

    def evaluate(self, eps: Predictions, inputs: ScoreInputs) -> Float[Tensor, "b c zh zw"]:
        without_neg = {branch: weight for branch, weight in self.weights.items() if branch != NEG}
        score = weighted(eps, without_neg)
        is_low = (inputs.timesteps < self.domain_timestep).view(-1, 1, 1, 1)
        return score if is_low.all() else torch.where(is_low, score, score - eps[NEG])
