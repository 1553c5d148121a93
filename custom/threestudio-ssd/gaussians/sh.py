"""Real spherical harmonics up to degree 4: the basis, colours, and how coefficients turn with the world.

Signs and order are those of 3D Gaussian splatting (Kerbl et al. 2023) and gsplat: coefficient 0 is the constant, then
degree by degree with the order m = -l .. l, with the Condon-Shortley phase (degree 1: -0.4886 y, 0.4886 z, -0.4886 x).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

C0 = 0.28209479177387814
"""Value of the constant harmonic, 1 / (2 sqrt(pi))."""


def sh0_from_rgbs(rgbs: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """Degree-0 coefficients that show a colour (0..1) from every side."""
    return (rgbs - 0.5) / C0


def rgbs_from_sh0(sh0: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """Colour that degree-0 coefficients show; not clamped."""
    return 0.5 + C0 * sh0


def sh_basis(directions: Float[Tensor, "*n 3"], sh_degree: int) -> Float[Tensor, "*n k"]:
    """Values of all real spherical harmonics up to a degree.

    Computed by the recurrence of the associated Legendre functions with sin(theta)^m folded into the azimuth part, so
    there is no division and no pole.

    Args:
        directions: Unit vectors from the camera centre to the Gaussian, world axes.
        sh_degree: 0..4 (any degree works).

    Returns:
        (..., (sh_degree + 1)^2) values in the order of the coefficients.
    """
    x, y, z = directions.unbind(-1)
    cosines, sines = [torch.ones_like(x)], [torch.zeros_like(x)]  # sin^m(theta) * cos / sin of m * azimuth
    for _ in range(sh_degree):
        c, s = cosines[-1], sines[-1]
        cosines.append(x * c - y * s)
        sines.append(x * s + y * c)
    values: list[Tensor] = []
    for degree in range(sh_degree + 1):
        for order in range(-degree, degree + 1):
            m = abs(order)
            norm = math.sqrt((2 * degree + 1) / (4 * math.pi) * math.factorial(degree - m) / math.factorial(degree + m))
            legendre = norm * _legendre(degree, m, z)
            if order == 0:
                values.append(legendre)
            else:
                values.append(math.sqrt(2) * (-1) ** m * legendre * (sines[m] if order < 0 else cosines[m]))
    return torch.stack(values, dim=-1)


def sh_colors(sh: Float[Tensor, "*n k 3"], directions: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """Colours seen along directions: max(0, 0.5 + sum_k SH_k Y_k).

    Args:
        sh: Coefficients, degree 0 first.
        directions: Unit vectors from the camera centre to the Gaussian, world axes.
    """
    basis = sh_basis(directions, math.isqrt(sh.shape[-2]) - 1)
    return (0.5 + (basis[..., None] * sh).sum(-2)).clamp_min(0)


def sh_rotation(rotation: Float[Tensor, "3 3"], degree: int) -> Float[Tensor, "m m"]:
    """Matrix that turns the coefficients of one degree along with the world (real Wigner matrix), float64.

    The rotated function at R d equals the old one at d. The harmonics of one degree span a space that rotations map to
    itself, so the matrix follows exactly from enough directions by least squares.

    Args:
        rotation: World rotation, det +1.
        degree: 1..4.
    """
    steps = torch.arange(4 * (2 * degree + 1), dtype=torch.float64) + 0.5
    heights, turns = 1 - 2 * steps / len(steps), steps * math.pi * (1 + math.sqrt(5))  # Fibonacci sphere
    radii = (1 - heights**2).sqrt()
    directions = torch.stack([radii * turns.cos(), radii * turns.sin(), heights], dim=-1)
    band = slice(degree**2, (degree + 1) ** 2)
    old = sh_basis(directions, degree)[:, band]
    new = sh_basis(directions @ rotation.to("cpu", torch.float64).T, degree)[:, band]
    return torch.linalg.lstsq(new, old).solution


def rotate_sh(shN: Float[Tensor, "n rest 3"], rotation: Float[Tensor, "3 3"]) -> Float[Tensor, "n rest 3"]:
    """Higher coefficients of Gaussians after the world is turned by a rotation."""
    parts, degree, start = [], 1, 0
    while start < shN.shape[1]:
        matrix = sh_rotation(rotation, degree).to(shN)
        parts.append(torch.einsum("ij,njc->nic", matrix, shN[:, start : start + 2 * degree + 1]))
        start += 2 * degree + 1
        degree += 1
    return torch.cat(parts, dim=1) if parts else shN


def _legendre(degree: int, m: int, z: Tensor) -> Tensor:
    """Associated Legendre function without its factor (-1)^m sin^m(theta), by upward recurrence in the degree."""
    double_factorial = math.prod(range(1, 2 * m, 2))
    previous, current = torch.zeros_like(z), torch.full_like(z, float(double_factorial))
    for step in range(m + 1, degree + 1):
        previous, current = current, ((2 * step - 1) * z * current - (step + m - 1) * previous) / (step - m)
    return current
