"""DDIM inversion as it is: the source branch goes down by itself, and misses the picture by what the steps miss."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .picture_inversion import PictureInversion, ddim_inverse
from .setting import Inverted, Setting


@dataclass(frozen=True)
class DDIM(PictureInversion):
    """Inversion by DDIM (Song et al. 2020, arXiv:2010.02502, section 4.3).

    Both branches start from the same noise. The way back has the error of first order of its steps, and with guidance
    that of the guidance, which is larger. A null edit gives what the source branch gives.
    """

    def invert(self, setting: Setting, latents: Float[Tensor, "b c zh zw"]) -> Inverted:
        """See ``PictureInversion``."""
        return Inverted(ddim_inverse(setting, latents))
