"""Noise-free score distillation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .branches import Branch


@dataclass(frozen=True)
class NFSD:
    """Noise-free score distillation (Katzir et al. 2023, arXiv:2310.17590): delta_D + s delta_C.

    delta_C = eps(z, y) - eps(z, null); delta_D = eps(z, null) below ``domain_timestep``, else eps(z, null) - eps(z, neg).
    Does not vanish in general; with y = null = neg it does at and above ``domain_timestep``.
    """

    guidance_scale: float = 7.5
    """s."""
    domain_timestep: int = 200
    """Below it the unconditional prediction itself is taken for the domain correction."""

    branches: ClassVar = (Branch("tgt", "tgt"), Branch("tgt", "null"), Branch("tgt", "neg"))

    def __call__(
        self, eps: Mapping[Branch, Float[Tensor, "b c zh zw"]], *, timesteps: Int[Tensor, "b"]
    ) -> Float[Tensor, "b c zh zw"]:
        tgt_tgt, tgt_null, tgt_neg = (eps[branch] for branch in self.branches)
        is_low = (timesteps < self.domain_timestep).view(-1, 1, 1, 1)
        domain = torch.where(is_low, tgt_null, tgt_null - tgt_neg)
        return domain + self.guidance_scale * (tgt_tgt - tgt_null)
