"""3D Gaussians: the parameters, spherical harmonics, and the files they live in."""

from .io import load_gaussians, save_gaussians
from .model import Gaussians, Source
from .sh import rgbs_from_sh0, rotate_sh, sh0_from_rgbs, sh_basis, sh_colors

__all__ = [
    "Gaussians",
    "Source",
    "load_gaussians",
    "rgbs_from_sh0",
    "rotate_sh",
    "save_gaussians",
    "sh0_from_rgbs",
    "sh_basis",
    "sh_colors",
]
