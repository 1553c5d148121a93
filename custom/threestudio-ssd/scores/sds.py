"""Score distillation sampling."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from .branches import Branch, guidance_branches, guided_prediction


@dataclass(frozen=True)
class SDS:
    """Score distillation sampling (Poole et al. 2022, arXiv:2209.14988, Eq. 3): w(t) (eps^s(z, y) - noise).

    Does not vanish anywhere in general: the noise is random, the prediction is not; only its mean over noise can.
    """

    guidance_scale: float = 100.0
    """s; 100 in the paper for text-to-3D, 7.5 for editing."""
    weighting: Literal["sigma2", "uniform"] = "sigma2"
    """w(t): the noise variance 1 - alphas_cumprod, or 1."""

    @property
    def branches(self) -> tuple[Branch, ...]:
        return guidance_branches("tgt", "tgt", self.guidance_scale)

    def __call__(
        self,
        eps: Mapping[Branch, Float[Tensor, "b c zh zw"]],
        *,
        noise: Float[Tensor, "b c zh zw"],
        alphas_cumprod: Float[Tensor, "b 1 1 1"],
    ) -> Float[Tensor, "b c zh zw"]:
        w = 1 - alphas_cumprod if self.weighting == "sigma2" else torch.ones_like(alphas_cumprod)
        return w * (guided_prediction(eps, "tgt", "tgt", self.guidance_scale) - noise)
