"""Direct inversion: the source branch is put back on the inverted path at every step, and nothing is trained."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from .picture_inversion import PictureInversion, ddim_inverse
from .setting import Inverted, Setting


@dataclass(frozen=True)
class Direct(PictureInversion):
    """Direct inversion, also called PnP inversion (Ju et al. 2024, arXiv:2310.01506, Algorithm 1).

    It adds o_t = z*_{t-1} - DDIM(z*_t) to the source branch after each step, z* being the inverted latents: the source
    branch then is at z*_{t-1} to the last bit, and the target branch is left to itself. Here z*_{t-1} is put in place
    of the sum. The prediction under the null prompt, which only the sum would need, is not made.

    The source branch comes back exactly. The target branch does not claim to: with the source's own prompt it still
    has the error of guidance.
    """

    is_followed: ClassVar[bool] = True

    def invert(self, setting: Setting, latents: Float[Tensor, "b c zh zw"]) -> Inverted:
        """See ``PictureInversion``."""
        return Inverted(ddim_inverse(setting, latents), is_followed=True)
