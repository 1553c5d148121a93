"""Radiance fields: the lattice they live on, how rays go through it, the volume rendering, and their files."""

from .io import is_field, load_field, save_field
from .latent import AutoencoderName, LatentField, LatentSpace
from .lattice import Lattice, whole_lattice
from .marching import Samples, march
from .model import RadianceField
from .rays import Rays, rays_of
from .refiner import Refiner
from .splat import field_as_gaussians
from .volume import composite, ray_weights

__all__ = [
    "AutoencoderName", "LatentField", "LatentSpace", "Lattice", "RadianceField", "Rays", "Refiner", "Samples",
    "composite", "field_as_gaussians", "is_field", "load_field", "march", "ray_weights", "rays_of", "save_field",
    "whole_lattice",
]  # fmt: skip
