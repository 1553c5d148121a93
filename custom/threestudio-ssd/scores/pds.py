"""Posterior distillation sampling."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .branches import Branch, Predictions
from .dds import DDS
from .score import Score, ScoreInputs


@dataclass(frozen=True)
class PDS(Score):
    """Posterior distillation sampling (Koo et al. 2023, arXiv:2311.13831, Eq. 14): psi (z - z_src) + chi delta-eps^s.

    psi = (sqrt(a') - gamma - delta sqrt(a)) / sigma and chi = gamma sqrt(1 - a) / (sqrt(a) sigma), with a, a' the
    cumulative alphas at t and at the earlier t' and gamma, delta, sigma the posterior's coefficients with the single
    step's beta_t. For t' = t - 1 psi is exactly zero: the identity lives in the stride of two. Zero on a null edit.
    """

    guidance_scale: float = 100.0
    """s, the same on both sides."""
    stride: int = 2
    """t - t', timesteps; the paper's 500 of 1000."""

    @property
    def branches(self) -> tuple[Branch, ...]:
        return DDS(self.guidance_scale).branches

    def coefficients(
        self,
        alphas_cumprod: Float[Tensor, "b 1 1 1"],
        alphas_cumprod_prev: Float[Tensor, "b 1 1 1"],
        betas: Float[Tensor, "b 1 1 1"],
    ) -> tuple[Float[Tensor, "b 1 1 1"], Float[Tensor, "b 1 1 1"]]:
        """psi and chi."""
        a, a_prev = alphas_cumprod, alphas_cumprod_prev
        gamma = a_prev.sqrt() * betas / (1 - a)
        delta = (1 - betas).sqrt() * (1 - a_prev) / (1 - a)
        sigma = ((1 - a_prev) * betas / (1 - a)).sqrt()
        return (a_prev.sqrt() - gamma - delta * a.sqrt()) / sigma, gamma * (1 - a).sqrt() / (a.sqrt() * sigma)

    def evaluate(self, eps: Predictions, inputs: ScoreInputs) -> Float[Tensor, "b c zh zw"]:
        alphas_cumprod_prev = inputs.alphas_cumprod_before(self.stride)
        psi, chi = self.coefficients(inputs.alphas_cumprod, alphas_cumprod_prev, inputs.betas)
        return psi * (inputs.latents_tgt - inputs.latents_src) + chi * DDS(self.guidance_scale)(eps)
