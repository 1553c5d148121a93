"""What an autoencoder cannot see of a change: detail finer than its latent cells."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

LEAST_COVERED = 1e-3
"""Cells with less of the selection than this have no mean change."""


def new_detail(
    change: Float[Tensor, "b 3 h w"], covered: Float[Tensor, "b 1 h w"], cell: int
) -> Float[Tensor, "b 3 h w"]:
    """The part of a change that varies within a latent cell.

    The smooth part is the local mean of the selection's own change, times how much of the pixel the selection makes up
    (a normalised convolution, Knutsson & Westin 1993), so that a clean edge of an even change is no detail.

    Args:
        change: Edited minus source picture.
        covered: Share of each pixel that the selection makes up, in [0, 1].
        cell: Pixels of a latent cell's side; divides h and w.
    """

    def blurred(picture: Tensor) -> Tensor:
        return interpolate(avg_pool2d(picture, cell), picture.shape[-2:], mode="bilinear", align_corners=False)

    return change - covered * blurred(change) / blurred(covered).clamp_min(LEAST_COVERED)
