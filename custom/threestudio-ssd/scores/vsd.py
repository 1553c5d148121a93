"""Variational score distillation, editing form."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from .branches import Branch, guidance_branches, guided_prediction

LORA = Branch("tgt", "tgt", network="lora")


@dataclass(frozen=True)
class VSD:
    """Variational score distillation (Wang et al. 2023, arXiv:2305.16213, Eq. 9): w(t) (eps^s(z, y) - eps_lora(z, y)).

    eps_lora is the network with a LoRA that learns, a step at a time, to denoise the pictures of the edit itself; an
    edit starts from the source scene and an untrained LoRA, which changes nothing. Zero where the LoRA predicts
    what guidance does: with s = 1 before any training, later wherever it has caught up. No source latents anywhere,
    so nothing holds the identity; no camera embedding, since prompts of an edit name no view.
    """

    guidance_scale: float = 7.5
    """s of the frozen network; the LoRA's prediction is not guided."""
    weighting: Literal["sigma2", "uniform"] = "sigma2"
    """w(t): the noise variance 1 - alphas_cumprod, or 1."""

    @property
    def branches(self) -> tuple[Branch, ...]:
        return (*guidance_branches("tgt", "tgt", self.guidance_scale), LORA)

    def __call__(
        self, eps: Mapping[Branch, Float[Tensor, "b c zh zw"]], *, alphas_cumprod: Float[Tensor, "b 1 1 1"]
    ) -> Float[Tensor, "b c zh zw"]:
        w = 1 - alphas_cumprod if self.weighting == "sigma2" else torch.ones_like(alphas_cumprod)
        return w * (guided_prediction(eps, "tgt", "tgt", self.guidance_scale) - eps[LORA])
