"""One change of all colours, read off edited views: where a picture was tinted, that is the whole edit."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..gaussians import rgbs_from_sh0, sh0_from_rgbs
from ..scenes import Scene

RIDGE = 1e-3
"""How firmly directions of colour that no pixel shows stay as they are, per pixel."""


def color_transform(
    before: Float[Tensor, "n 3"], after: Float[Tensor, "n 3"]
) -> tuple[Float[Tensor, "3 3"], Float[Tensor, "3"]]:
    """The affine map of RGB that carries some colours nearest to others, by least squares.

    Args:
        before: Colours, [0, 1].
        after: What became of them, [0, 1].

    Returns:
        A and b of after = A before + b.
    """
    middle, target = before.mean(dim=0), after.mean(dim=0)
    inputs, outputs = before - middle, (after - target) - (before - middle)
    held = RIDGE * len(before) * torch.eye(3).to(before)
    change = torch.linalg.solve(inputs.T @ inputs + held, inputs.T @ outputs).T
    matrix = torch.eye(3).to(before) + change
    return matrix, target - matrix @ middle


def with_colors_transformed(gaussians: Scene, matrix: Float[Tensor, "3 3"], offset: Float[Tensor, "3"]) -> Scene:
    """Gaussians whose colours went through an affine map; what depends on the view goes along.

    Args:
        gaussians: All of them change.
        matrix: A of A rgb + b.
        offset: b.
    """
    rgbs = rgbs_from_sh0(gaussians.sh0) @ matrix.T + offset
    return gaussians.replace(sh0=sh0_from_rgbs(rgbs), shN=gaussians.shN @ matrix.T)
