"""Light and shade that stay: one change of material for Gaussians of one hue, brighter where the source is brighter."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .bounded_colors import brightness
from .shared_grid import Shares, linear_shares

CHROMA_STEP = 0.15
"""Distance of two hues that change apart, in chromaticity: a channel's share of all three."""
GREY = 0.02
"""Added to each channel, so that black has the chromaticity of grey."""


class Shading:
    """How far changes of colour are from changes of material under the source's light.

        L = sum_i w_i |D_i - s_i (P delta)_i|^2,    delta = P^T (w s D) / P^T (w s^2)

    D is the change of a Gaussian's colour, s its brightness before the edit, w its visible weight, and P shares a
    change of material delta among Gaussians of like chromaticity. What the score asks of one Gaussian of a material it
    gets from all of them, in proportion to their light: a uniform push cannot flatten the shades.

    Args:
        rgbs_src: Colours before the edit, [0, 1] as a rule.
        weights: Visible weights, >= 0.
    """

    def __init__(self, rgbs_src: Float[Tensor, "n 3"], weights: Float[Tensor, "n"]) -> None:
        self.rgbs_src, self.weights, self.shades = rgbs_src, weights[:, None], brightness(rgbs_src)
        lifted = rgbs_src.clamp_min(0) + GREY
        self.materials: Shares = linear_shares((lifted / lifted.sum(dim=1, keepdim=True))[:, :2], CHROMA_STEP)

    def __call__(self, rgbs: Float[Tensor, "m 3"], rows: Int[Tensor, "m"]) -> Float[Tensor, ""]:
        """The loss.

        Args:
            rgbs: Colours as they are now, with gradient.
            rows: Which of the source's Gaussians each stems from.
        """
        change, weights, shades = rgbs - self.rgbs_src[rows], self.weights[rows], self.shades[rows]
        materials = self.materials._replace(nodes=self.materials.nodes[rows], weights=self.materials.weights[rows])
        norm = materials.to_nodes(weights * shades.square())
        new_material = materials.to_nodes(weights * shades * change) / norm.clamp_min(torch.finfo(norm.dtype).tiny)
        return (weights * (change - shades * materials.to_points(new_material)).square()).sum()
