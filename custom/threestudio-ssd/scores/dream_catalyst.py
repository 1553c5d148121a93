"""DreamCatalyst."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .branches import Branch
from .dds import DDS
from .ssd import identity


@dataclass(frozen=True)
class DreamCatalyst:
    """DreamCatalyst (Kim et al. 2024, arXiv:2407.11394): (delta + gamma t^(1/e)) delta-eps^s + w exp(t) (z - z_src).

    The text-conditioned delta, for Stable Diffusion; the authors' form on InstructPix2Pix, with five predictions, is
    not here. Clean latents in the ID term. Zero on a null edit.
    """

    guidance_scale: float = 7.5
    """s, the same on both sides."""
    delta: float = 0.2
    """Constant part of the edit weight."""
    gamma: float = 0.8
    """Part of the edit weight that grows with t."""
    id_weight: float = 0.075
    """Weight of the ID term."""

    @property
    def branches(self) -> tuple[Branch, ...]:
        return DDS(self.guidance_scale).branches

    def __call__(
        self,
        eps: Mapping[Branch, Float[Tensor, "b c zh zw"]],
        *,
        latents_tgt: Float[Tensor, "b c zh zw"],
        latents_src: Float[Tensor, "b c zh zw"],
        t_frac: Float[Tensor, "b 1 1 1"],
    ) -> Float[Tensor, "b c zh zw"]:
        edit_weight = self.delta + self.gamma * t_frac ** (1 / math.e)
        return edit_weight * DDS(self.guidance_scale)(eps) + identity(self.id_weight, latents_tgt, latents_src, t_frac)
