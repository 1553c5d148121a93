"""DreamCatalyst on InstructPix2Pix, the form that its authors released."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .branches import Branch, Predictions, needed, weighted
from .dream_catalyst import edit_weight
from .score import Score, ScoreInputs
from .ssd import identity


@dataclass(frozen=True)
class DreamCatalystInstructPix2Pix(Score):
    """DreamCatalyst on an instruction-following network (Kim et al. 2024, arXiv:2407.11394), as released.

    (delta + gamma t^(1/e)) (eps_tgt - eps_src) + w exp(t) (z - z_src), on clean latents, with
    eps_tgt = eps(z) + s_I (eps(z, c_I) - eps(z)) + s_T (eps(z, c_I, c_T) - eps(z, c_I)) and
    eps_src = eps(z_src) + s_I (eps(z_src, c_I) - eps(z_src)). Five predictions: the source hears no instruction. Does
    not vanish on a null edit: the text guidance s_T (eps(z, c_I, c_T) - eps(z, c_I)) remains.
    """

    text_scale: float = 7.5
    """s_T."""
    image_scale: float = 1.5
    """s_I, the same on both sides."""
    delta: float = 0.2
    """Constant part of the edit weight."""
    gamma: float = 0.8
    """Part of the edit weight that grows with t."""
    id_weight: float = 0.075
    """Weight of the ID term."""

    @property
    def weights(self) -> dict[Branch, float]:
        """Coefficient of each prediction before the edit weight; they sum to zero."""
        s_t, s_i = self.text_scale, self.image_scale
        return {
            Branch("tgt", "tgt", "src"): s_t,
            Branch("tgt", "null", "src"): s_i - s_t,
            Branch("tgt", "null"): 1 - s_i,
            Branch("src", "null", "src"): -s_i,
            Branch("src", "null"): s_i - 1,
        }

    @property
    def branches(self) -> tuple[Branch, ...]:
        return needed(self.weights)

    def evaluate(self, eps: Predictions, inputs: ScoreInputs) -> Float[Tensor, "b c zh zw"]:
        pull = identity(self.id_weight, inputs.latents_tgt, inputs.latents_src, inputs.t_frac)
        return edit_weight(self.delta, self.gamma, inputs.t_frac) * weighted(eps, self.weights) + pull
