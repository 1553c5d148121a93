"""Gaussians as viser draws them: one colour each, from all sides; the selection tinted."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..gaussians import Gaussians, rgbs_from_sh0, rotation_matrices
from ..masks import TINT, TINT_STRENGTH


class Splats(NamedTuple):
    """What ``add_gaussian_splats`` of viser takes; float32."""

    centers: Float[np.ndarray, "n 3"]
    covariances: Float[np.ndarray, "n 3 3"]
    rgbs: Float[np.ndarray, "n 3"]
    opacities: Float[np.ndarray, "n 1"]


@torch.no_grad()
def splats_of(gaussians: Gaussians, is_tinted: Bool[Tensor, "n"] | None = None) -> Splats:
    """Gaussians with their colour of degree 0; what depends on the view is left out.

    Args:
        gaussians: On any device.
        is_tinted: Which are shown in the selection's colour.
    """
    rs = rotation_matrices(gaussians.quats) * gaussians.scales[:, None, :]
    rgbs = rgbs_from_sh0(gaussians.sh0[:, 0]).clamp(0, 1)
    if is_tinted is not None:
        share = TINT_STRENGTH * is_tinted.to(rgbs)[:, None]
        rgbs = rgbs + share * (rgbs.new_tensor(TINT) - rgbs)
    parts = (gaussians.means, rs @ rs.mT, rgbs, gaussians.opacities[:, None])
    return Splats(*(part.float().cpu().numpy() for part in parts))
