"""Delta denoising score."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .branches import Branch, Predictions, guidance_branches, guided_prediction
from .score import Score, ScoreInputs


@dataclass(frozen=True)
class DDS(Score):
    """Delta denoising score (Hertz et al. 2023, arXiv:2304.07090, Eq. 3): eps^s(z, y) - eps^s(z_src, y_src).

    Zero when both latents and both prompts agree.
    """

    guidance_scale: float = 7.5
    """s, the same on both sides."""

    @property
    def branches(self) -> tuple[Branch, ...]:
        s = self.guidance_scale
        return guidance_branches("src", "src", s) + guidance_branches("tgt", "tgt", s)

    def evaluate(self, eps: Predictions, inputs: ScoreInputs) -> Float[Tensor, "b c zh zw"]:
        s = self.guidance_scale
        return guided_prediction(eps, "tgt", "tgt", s) - guided_prediction(eps, "src", "src", s)
