"""3D Gaussians: the parameters, spherical harmonics, and the files they live in."""

from .blend import blended
from .densify import Offspring, grow, strongest
from .generations import anchor_weights, held_drift
from .io import load_gaussians, save_gaussians
from .model import Gaussians
from .placed import FileOrigin
from .sh import rgbs_from_sh0, rotate_sh, sh0_from_rgbs, sh_basis, sh_colors
from .transform import half_turn_x, morton_order, quats_along, rotated, rotation_matrices, scaled, translated

__all__ = [
    "FileOrigin", "Gaussians", "Offspring", "anchor_weights", "blended", "grow", "half_turn_x", "held_drift",
    "load_gaussians", "morton_order", "quats_along", "rgbs_from_sh0", "rotate_sh", "rotated", "rotation_matrices",
    "save_gaussians", "scaled", "sh0_from_rgbs", "sh_basis", "sh_colors", "strongest", "translated",
]  # fmt: skip
