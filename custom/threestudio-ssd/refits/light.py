"""The light of a scene: how bright a surface is by the way it faces, read off one object and cast on another."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..images import chroma_of, luminance

SAME_CHROMA = 0.05
"""Distance of two chromaticities up to which they are one material's."""
RIDGE = 0.02
"""How firmly what no surface shows is held at even light, per point."""
LEAST_SHARE = 0.2
"""Share of the new surface that must be of the old one's material to be as bright as that."""
RANGE = (0.25, 2.0)
"""Factors of light stay between these."""


@dataclass(frozen=True, eq=False)
class Light:
    """Irradiance by the direction a surface faces, as spherical harmonics up to degree 2 (Ramamoorthi 2001).

    Attributes:
        coefficients: (9) of the functions of ``harmonics``.
        chroma: (3) RGB of the material that it was read from, of sum 1.
        level: Mean brightness of that material under even light: what the light of a direction is multiplied with.
    """

    coefficients: Float[Tensor, "9"]
    chroma: Float[Tensor, "3"]
    level: float

    def __call__(self, normals: Float[Tensor, "n 3"]) -> Float[Tensor, "n"]:
        """How bright a surface of each direction is, 1 under even light."""
        return (harmonics(normals) @ self.coefficients).clamp(*RANGE)

    def factors(self, normals: Float[Tensor, "n 3"], rgbs: Float[Tensor, "n 3"]) -> Float[Tensor, "n"]:
        """What to multiply the colours of evenly lit points with, so that they stand in this light.

        Where enough of them are of the material that the light was read from, all become brighter or darker so that
        these are as bright as it was; else their mean brightness stays.

        Args:
            normals: Of the new surface, unit length.
            rgbs: Its colours under even light, [0, 1].
        """
        light = self(normals)
        is_same = (chroma_of(rgbs) - self.chroma).norm(dim=1) < SAME_CHROMA
        if is_same.float().mean() < LEAST_SHARE:
            return light / light.mean()
        return light * (self.level / luminance(rgbs[is_same]).median().clamp_min(1e-3)).clamp(*RANGE)


def light_on(normals: Float[Tensor, "n 3"], rgbs: Float[Tensor, "n 3"]) -> Light:
    """The light that a surface stands in, from the material that most of it is of.

    Args:
        normals: Of points evenly spread on the surface, unit length.
        rgbs: Their colours as they are lit, [0, 1].
    """
    is_main = main_material(rgbs)
    functions, values = harmonics(normals[is_main]), luminance(rgbs[is_main])
    level = values.mean().clamp_min(1e-3)
    held = RIDGE * len(values) * torch.eye(9).to(values)
    held[0, 0] = 0
    coefficients = torch.linalg.solve(functions.T @ functions + held, functions.T @ (values / level))
    even = coefficients[0] * harmonics(normals[:1])[0, 0]  # the mean over all directions
    return Light(coefficients / even, chroma_of(rgbs[is_main]).median(dim=0).values, float(level * even))


def harmonics(directions: Float[Tensor, "n 3"]) -> Float[Tensor, "n 9"]:
    """Real spherical harmonics of degree 0 to 2, the first one 1 everywhere."""
    x, y, z = directions.T
    root = math.sqrt(3.0)
    linear = [root * each for each in (x, y, z)]
    squares = [15**0.5 * each for each in (x * y, y * z, x * z)]
    rest = [5**0.5 / 2 * (3 * z * z - 1), 15**0.5 / 2 * (x * x - y * y)]
    return torch.stack([torch.ones_like(x), *linear, *squares, *rest], dim=1)


def main_material(rgbs: Float[Tensor, "n 3"]) -> Bool[Tensor, "n"]:
    """Which points are of the material that most of them are of, by chromaticity."""
    chroma = chroma_of(rgbs)
    candidates = chroma[:: max(1, len(chroma) // 64)]
    near = (chroma[None] - candidates[:, None]).norm(dim=2) < SAME_CHROMA
    return near[near.sum(dim=1).argmax()]
