"""Spherical harmonics: the basis is gsplat's, colours follow it, and coefficients turn with the world."""

import math

import pytest
import torch
from gsplat.cuda._torch_impl import _eval_sh_bases_fast

from threestudio_ssd.gaussians import rgbs_from_sh0, rotate_sh, sh0_from_rgbs, sh_basis, sh_colors
from threestudio_ssd.gaussians.sh import sh_rotation


@pytest.fixture
def directions(generator):
    return torch.nn.functional.normalize(torch.randn(200, 3, generator=generator, dtype=torch.float64), dim=-1)


def rotation_about(axis, degrees):
    x, y, z = torch.nn.functional.normalize(torch.tensor(axis, dtype=torch.float64), dim=0).tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    return torch.linalg.matrix_exp(cross * math.radians(degrees))


def test_basis_is_that_of_gsplat(directions):
    assert torch.allclose(sh_basis(directions, 4), _eval_sh_bases_fast(25, directions), atol=1e-12)


def test_basis_is_orthonormal():
    count = 20000
    steps = torch.arange(count, dtype=torch.float64) + 0.5
    z, turn = 1 - 2 * steps / count, steps * math.pi * (1 + math.sqrt(5))
    radius = (1 - z**2).sqrt()
    basis = sh_basis(torch.stack([radius * turn.cos(), radius * turn.sin(), z], dim=-1), 4)
    gram = 4 * math.pi * basis.T @ basis / count
    assert torch.allclose(gram, torch.eye(25, dtype=torch.float64), atol=1e-3)


def test_degree_one_signs():
    axes = torch.eye(3, dtype=torch.float64)
    basis = sh_basis(axes, 1)[:, 1:]
    expected = 0.4886025 * torch.tensor([[0, 0, -1.0], [-1, 0, 0], [0, 1, 0]], dtype=torch.float64)
    assert torch.allclose(basis, expected, atol=1e-6)


def test_colours():
    rgbs = torch.tensor([[0.2, 0.5, 1.0]])
    assert torch.allclose(rgbs_from_sh0(sh0_from_rgbs(rgbs)), rgbs)
    sh = torch.zeros(1, 4, 3)
    sh[:, 0] = sh0_from_rgbs(rgbs)
    assert torch.allclose(sh_colors(sh, torch.tensor([[0.0, 0, 1]])), rgbs, atol=1e-6)
    sh[:, 2] = 100.0
    assert sh_colors(sh, torch.tensor([[0.0, 0, -1]])).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_rotated_coefficients_are_the_rotated_function(degree, directions, generator):
    rotation = rotation_about([1, -2, 0.5], 77)
    rest = (degree + 1) ** 2 - 1
    shN = torch.randn(200, rest, 3, generator=generator, dtype=torch.float64)
    old = (sh_basis(directions, degree)[:, 1:, None] * shN).sum(1)
    new = (sh_basis(directions @ rotation.T, degree)[:, 1:, None] * rotate_sh(shN, rotation)).sum(1)
    assert torch.allclose(old, new, atol=1e-10)
    matrix = sh_rotation(rotation, degree)
    assert torch.allclose(matrix @ matrix.T, torch.eye(2 * degree + 1, dtype=torch.float64), atol=1e-12)


def test_degree_zero_has_nothing_to_rotate():
    assert rotate_sh(torch.zeros(5, 0, 3), torch.eye(3)).shape == (5, 0, 3)
