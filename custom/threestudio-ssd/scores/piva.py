"""Delta denoising with an identity term learned beside it (Piva)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .branches import Branch, Predictions, guidance_branches, guided_prediction
from .score import Score, ScoreInputs
from .sds import Weighting, noise_weight

LORA_TGT, LORA_SRC = Branch("tgt", "tgt", network="lora"), Branch("tgt", "src", network="lora")


@dataclass(frozen=True)
class Piva(Score):
    """DDS and a variational identity term (Le et al. 2024, arXiv:2406.08953):

    eps^s(z, y) - eps^s(z_src, y_src) + lambda w(t) (eps_lora(z, y_src) - eps_lora(z, y)).

    The last difference is, up to its scale, the score of the distribution of the edit's images minus that of the
    source's: fed back, it lowers the divergence of the one from the other. Zero as a whole where latents and prompts
    agree.

    One LoRA estimates both, told apart by the prompt: it learns to denoise images of the edit under y, and those of
    the source under y_src. With equal prompts it can tell nothing apart, and plain DDS is left. The paper's text
    leaves to a reader how the estimators are built and how its terms are weighed; lambda and w(t) are ours to choose.
    """

    guidance_scale: float = 7.5
    """s of both terms of DDS; the LoRA's predictions are not guided."""
    lambda_identity: float = 1.0
    """lambda; 0 is DDS, without a LoRA."""
    weighting: Weighting = "uniform"
    """w(t) of the identity term, see ``noise_weight``."""

    @property
    def branches(self) -> tuple[Branch, ...]:
        s = self.guidance_scale
        learned = (LORA_SRC, LORA_TGT) if self.lambda_identity else ()
        return (*guidance_branches("src", "src", s), *guidance_branches("tgt", "tgt", s), *learned)

    def evaluate(self, eps: Predictions, inputs: ScoreInputs) -> Float[Tensor, "b c zh zw"]:
        s = self.guidance_scale
        delta = guided_prediction(eps, "tgt", "tgt", s) - guided_prediction(eps, "src", "src", s)
        if not self.lambda_identity:
            return delta
        identity = eps[LORA_SRC] - eps[LORA_TGT]
        return delta + self.lambda_identity * noise_weight(self.weighting, inputs.alphas_cumprod) * identity
