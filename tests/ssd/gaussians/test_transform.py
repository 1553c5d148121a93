"""Turning, scaling and ordering whole scenes."""

from pathlib import Path

import pytest
import torch

from threestudio_ssd.gaussians import (
    Gaussians,
    half_turn_x,
    load_gaussians,
    morton_order,
    quats_along,
    rotated,
    rotation_matrices,
    scaled,
    sh_colors,
    translated,
)
from threestudio_ssd.gaussians.transform import matrix_to_quat, quat_product

GOLDEN = Path(__file__).parents[2] / "golden" / "formats"


def covariances(gaussians: Gaussians) -> torch.Tensor:
    w, x, y, z = gaussians.quats.double().unbind(-1)
    rotations = torch.stack([
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ], dim=-1).reshape(-1, 3, 3)  # fmt: skip
    factors = rotations * gaussians.scales.double()[:, None]
    return factors @ factors.mT


@pytest.fixture(scope="module")
def scene():
    return load_gaussians(GOLDEN / "sh3.ply")


@pytest.fixture
def rotation():
    q, r = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))
    q = q * torch.sign(torch.diagonal(r))
    return q if torch.linalg.det(q) > 0 else -q


def test_a_turned_scene_looks_the_same_to_a_turned_camera(scene, rotation):
    turned = rotated(scene, rotation)
    assert torch.allclose(turned.means.double(), scene.means.double() @ rotation.T, atol=1e-5)
    expected = rotation @ covariances(scene) @ rotation.T
    assert torch.allclose(covariances(turned), expected, rtol=1e-4, atol=1e-6)
    eye = torch.tensor([20.0, -3.0, 7.0], dtype=torch.float64)
    before = sh_colors(scene.sh.double(), torch.nn.functional.normalize(scene.means.double() - eye, dim=1))
    towards = torch.nn.functional.normalize(turned.means.double() - rotation @ eye, dim=1)
    assert torch.allclose(sh_colors(turned.sh.double(), towards), before, atol=1e-4)


def test_half_turn_is_the_rotation_and_its_own_inverse(scene):
    flipped = half_turn_x(scene)
    turned = rotated(scene, torch.diag(torch.tensor([1.0, -1.0, -1.0])))
    assert torch.allclose(flipped.means, turned.means, atol=1e-5)
    assert torch.allclose(covariances(flipped), covariances(turned), rtol=1e-4, atol=1e-6)
    assert torch.allclose(flipped.shN, turned.shN, atol=1e-5)
    again = half_turn_x(flipped)
    assert all(torch.equal(tensor, getattr(scene, name)) for name, tensor in again.parameters().items())
    wide = half_turn_x(scene.with_sh_degree(4).replace(shN=torch.randn(len(scene), 24, 3)))
    assert torch.allclose(
        wide.shN, rotated(half_turn_x(wide), torch.diag(torch.tensor([1.0, -1.0, -1.0]))).shN, atol=1e-5
    )


def test_a_file_written_in_another_frame_is_turned_back(scene):
    """SPZ's own writer, told that the source frame was RDF, stored this scene after a half turn about x."""
    upright = half_turn_x(load_gaussians(GOLDEN / "sh3_v4_declared_rdf.spz"))
    assert torch.allclose(upright.means, scene.means, atol=2e-4)
    assert (upright.quats * scene.quats).sum(1).abs().min() > 0.9999
    assert torch.allclose(upright.shN, scene.shN, atol=0.07)


def test_scaled_and_translated(scene):
    larger = scaled(scene, 3)
    assert torch.allclose(larger.means, scene.means * 3)
    assert torch.allclose(larger.scales, scene.scales * 3, rtol=1e-5)
    moved = translated(scene, torch.tensor([1.0, 2.0, 3.0]))
    assert torch.allclose(moved.means - scene.means, torch.tensor([1.0, 2.0, 3.0]), atol=1e-5)
    with pytest.raises(ValueError, match="factor must be > 0, got 0"):
        scaled(scene, 0)
    with pytest.raises(ValueError, match=r"rotation must be orthonormal with determinant \+1"):
        rotated(scene, torch.diag(torch.tensor([1.0, 1.0, -1.0])))


def test_quaternions(rotation):
    quat = matrix_to_quat(rotation)
    assert torch.allclose(quat.norm(), torch.tensor(1.0, dtype=torch.float64))
    one = torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64)
    assert torch.allclose(quat_product(quat, one)[0], quat)
    square = matrix_to_quat(rotation @ rotation)
    product = quat_product(quat, quat)
    assert torch.allclose(product * torch.sign(product[0]), square * torch.sign(square[0]), atol=1e-12)


def test_morton_order_brings_neighbours_together(scene):
    order = morton_order(scene.means)
    assert torch.equal(order.sort().values, torch.arange(1000))
    ordered = scene.means[order]
    assert (ordered[1:] - ordered[:-1]).norm(dim=1).mean() < 0.5 * (scene.means[1:] - scene.means[:-1]).norm(
        dim=1
    ).mean()
    assert len(morton_order(torch.zeros(0, 3))) == 0


def test_a_z_axis_is_carried_along_any_direction():
    directions = torch.nn.functional.normalize(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    directions = torch.cat([directions, torch.eye(3), -torch.eye(3)])
    torch.testing.assert_close(rotation_matrices(quats_along(directions))[:, :, 2], directions, atol=1e-5, rtol=0)
