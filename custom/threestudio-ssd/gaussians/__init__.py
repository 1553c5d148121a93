"""3D Gaussians: the parameters, spherical harmonics, and the files they live in."""

from .io import load_gaussians, save_gaussians
from .model import Gaussians, Source
from .sh import rgbs_from_sh0, rotate_sh, sh0_from_rgbs, sh_basis, sh_colors
from .transform import half_turn_x, morton_order, rotated, scaled, translated

__all__ = [
    "Gaussians",
    "Source",
    "half_turn_x",
    "load_gaussians",
    "morton_order",
    "rgbs_from_sh0",
    "rotate_sh",
    "rotated",
    "save_gaussians",
    "scaled",
    "sh0_from_rgbs",
    "sh_basis",
    "sh_colors",
    "translated",
]
