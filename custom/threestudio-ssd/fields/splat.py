"""A radiance field as Gaussians: one at every node where something is."""

import torch

from ..errors import ConfigError
from ..gaussians import Gaussians
from .lattice import REACH, unfold
from .model import RadianceField

LEAST_OPACITY, MOST_OPACITY = 0.1, 0.98
"""Alpha of a cell's side below which a node gives no Gaussian; and the largest that one gets."""
WIDTH = 0.5
"""Standard deviation of a Gaussian, in sides of its cell."""


@torch.no_grad()
def field_as_gaussians(field: RadianceField) -> Gaussians:
    """Gaussians that look roughly like the field; a fit makes them look like it (``edits/field_splat.py``).

    Args:
        field: The field.

    Raises:
        ConfigError: If it is empty everywhere.
    """
    is_there = field.opacities > LEAST_OPACITY
    if not is_there.any():
        raise ConfigError(
            what="the field is nearly empty everywhere, and no splat can be made of it",
            expected="a field that was fitted for long enough to hide what is behind it",
            fix="give the fit more steps, or set system.splat_steps=0",
        )  # fmt: skip
    seen, lattice = field.select(is_there), field.lattice
    nodes, axes = seen.lattice.nodes.to(seen.means), torch.eye(3, device=seen.device)
    # how far apart the two neighbours along each axis are, a cell's side each
    low, high = (unfold((nodes[:, None] + sign * axes) * lattice.spacing - REACH) for sign in (-0.5, 0.5))
    sides = lattice.half * (high - low).norm(dim=-1)
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0], device=seen.device).repeat(len(seen), 1)
    return Gaussians(
        means=seen.means.float(), log_scales=(WIDTH * sides).log().float(), raw_quats=quats,
        logit_opacities=torch.logit(seen.opacities.clamp(max=MOST_OPACITY)).float(),
        sh0=seen.sh0_shown.float(), shN=seen.shN.float() if seen.sh_degree else seen.sh0.new_zeros(len(seen), 0, 3),
    )  # fmt: skip
