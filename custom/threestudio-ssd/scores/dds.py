"""Delta denoising score."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from .branches import Branch, guided


@dataclass(frozen=True)
class DDS:
    """Delta denoising score (Hertz et al. 2023, arXiv:2304.07090, Eq. 3): eps^s(z, y) - eps^s(z_src, y_src).

    Zero when both latents and both prompts agree.
    """

    guidance_scale: float = 7.5
    """s, the same on both sides."""

    branches: ClassVar = (Branch("src", "null"), Branch("src", "src"), Branch("tgt", "null"), Branch("tgt", "tgt"))

    def __call__(self, eps: Mapping[Branch, Float[Tensor, "b c zh zw"]]) -> Float[Tensor, "b c zh zw"]:
        src_null, src_src, tgt_null, tgt_tgt = (eps[branch] for branch in self.branches)
        return guided(tgt_tgt, tgt_null, self.guidance_scale) - guided(src_src, src_null, self.guidance_scale)
