"""Classifier score distillation, editing form."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .branches import Branch, Predictions, needed, weighted
from .score import Score, ScoreInputs


@dataclass(frozen=True)
class CSD(Score):
    """Classifier score distillation for editing (Yu et al. 2023, arXiv:2310.19415, Eq. 10).

    w_a (eps(z, y) - eps(z, null)) - w_b (eps(z, y_src) - eps(z, null)). Zero when both prompts and both weights agree;
    no source latents anywhere, so nothing holds the identity. With equal weights the null branch drops out.
    """

    target_weight: float = 7.5
    """w_a; the paper leaves the editing weights open."""
    source_weight: float = 7.5
    """w_b."""

    @property
    def weights(self) -> dict[Branch, float]:
        """Coefficient of each prediction; they sum to zero."""
        return {
            Branch("tgt", "tgt"): self.target_weight,
            Branch("tgt", "src"): -self.source_weight,
            Branch("tgt", "null"): self.source_weight - self.target_weight,
        }

    @property
    def branches(self) -> tuple[Branch, ...]:
        return needed(self.weights)

    def evaluate(self, eps: Predictions, inputs: ScoreInputs) -> Float[Tensor, "b c zh zw"]:
        return weighted(eps, self.weights)
