"""Variational score distillation, editing form."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .branches import Branch, Predictions, guidance_branches, guided_prediction
from .score import Score, ScoreInputs
from .sds import Weighting, noise_weight

LORA = Branch("tgt", "tgt", network="lora")


@dataclass(frozen=True)
class VSD(Score):
    """Variational score distillation (Wang et al. 2023, arXiv:2305.16213, Eq. 9): w(t) (eps^s(z, y) - eps_lora(z, y)).

    eps_lora is the network with a LoRA that learns, a step at a time, to denoise the images of the edit itself; an
    edit starts from the source scene and an untrained LoRA, which changes nothing. Zero where the LoRA predicts
    what guidance does: with s = 1 before any training, later wherever it has caught up. No source latents anywhere,
    so nothing holds the identity; no camera embedding, since prompts of an edit name no view.

    The authors draw t uniformly up to 0.98 T, after a fifth of their run up to 0.5 T. Here t is the guidance's:
    ``schedule=uniform`` draws it from one range for the whole run (``t_max_frac``), every other schedule lets it fall.
    """

    guidance_scale: float = 7.5
    """s of the frozen network; the LoRA's prediction is not guided."""
    weighting: Weighting = "sigma2"
    """w(t), see ``noise_weight``; the paper's is the noise variance."""

    @property
    def branches(self) -> tuple[Branch, ...]:
        return (*guidance_branches("tgt", "tgt", self.guidance_scale), LORA)

    def evaluate(self, eps: Predictions, inputs: ScoreInputs) -> Float[Tensor, "b c zh zw"]:
        difference = guided_prediction(eps, "tgt", "tgt", self.guidance_scale) - eps[LORA]
        return noise_weight(self.weighting, inputs.alphas_cumprod) * difference
