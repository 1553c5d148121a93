"""Stable score distillation on InstructPix2Pix."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .branches import Branch, Predictions, needed, weighted
from .score import Score, ScoreInputs
from .ssd import noisy_identity


@dataclass(frozen=True)
class SSDInstructPix2Pix(Score):
    """SSD on an instruction-following network (Zhu et al. 2025, arXiv:2507.09168, Eq. 10 minus the source's).

    s_T (eps(z, c_I, c_T) - eps(z, c_I, null)) + s_I (eps(z, c_I, null) - eps(z)) + eps(z) - eps(z_src), plus the ID
    term. Four predictions: of the source's three states only the unconditional one enters. Does not vanish on a
    null edit: the two guidance terms remain.
    """

    text_scale: float = 7.5
    """s_T."""
    image_scale: float = 1.5
    """s_I."""
    id_weight: float = 0.075
    """As in SSD."""

    @property
    def weights(self) -> dict[Branch, float]:
        """Coefficient of each prediction; they sum to zero."""
        s_t, s_i = self.text_scale, self.image_scale
        return {
            Branch("tgt", "tgt", "src"): s_t,
            Branch("tgt", "null", "src"): s_i - s_t,
            Branch("tgt", "null"): 1 - s_i,
            Branch("src", "null"): -1.0,
        }

    @property
    def branches(self) -> tuple[Branch, ...]:
        return needed(self.weights)

    def evaluate(self, eps: Predictions, inputs: ScoreInputs) -> Float[Tensor, "b c zh zw"]:
        return weighted(eps, self.weights) + noisy_identity(self.id_weight, inputs)
