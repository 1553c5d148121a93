"""Turn, scale, move and re-order Gaussians as a whole; view-dependent colour turns along."""

import dataclasses

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .model import Gaussians
from .sh import rotate_sh

# Signs that y -> -y, z -> -z (a half turn about x) gives to the SH coefficients of degree 1 to 4: -1 where the harmonic
# is odd in y and z together.
_HALF_TURN_SIGNS = (-1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1, -1, 1, -1, 1, 1, -1, 1, -1, 1)

_TO_Y_UP = {
    "+y": ((1, 0, 0), (0, 1, 0), (0, 0, 1)), "-y": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "+z": ((1, 0, 0), (0, 0, 1), (0, -1, 0)), "-z": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "+x": ((0, -1, 0), (1, 0, 0), (0, 0, 1)), "-x": ((0, 1, 0), (-1, 0, 0), (0, 0, 1)),
}  # fmt: skip
"""Turns that bring an axis to +y."""
USUAL_UP = "-y"
"""What points upwards in most splats: their worlds are COLMAP's."""


def turn_to_y_up(up: str | None) -> np.ndarray:
    """(4 4) turn after which an axis points along +y; ``USUAL_UP`` stands for what is no axis."""
    matrix = np.eye(4)
    matrix[:3, :3] = _TO_Y_UP.get(up or USUAL_UP, _TO_Y_UP[USUAL_UP])
    return matrix


def placed(gaussians: Gaussians, matrix: np.ndarray) -> Gaussians:
    """The scene where a node puts it: scaled, turned, then moved.

    Args:
        gaussians: Any scene.
        matrix: (4 4) with one scale, > 0, for all axes.

    Raises:
        ValueError: If it does more than turn, scale and move.
    """
    if np.array_equal(matrix, np.eye(4)):
        return gaussians
    factor = float(np.cbrt(np.linalg.det(matrix[:3, :3])))
    if not (np.isfinite(matrix).all() and factor > 0 and np.allclose(matrix[3], (0, 0, 0, 1))):
        raise ValueError("the matrix of a node is no turn, scale and shift")
    turned = rotated(gaussians, torch.from_numpy(matrix[:3, :3] / factor))
    turned = turned if abs(factor - 1) < 1e-9 else scaled(turned, factor)
    return translated(turned, torch.from_numpy(matrix[:3, 3])) if matrix[:3, 3].any() else turned


def rotated(gaussians: Gaussians, rotation: Float[Tensor, "3 3"]) -> Gaussians:
    """The scene after a rotation of the world about the origin.

    Args:
        gaussians: Any scene.
        rotation: det +1; new position = rotation @ old position.

    Raises:
        ValueError: If it is no rotation.
    """
    turn = rotation.to("cpu", torch.float64)
    if not torch.allclose(turn @ turn.T, torch.eye(3, dtype=torch.float64), atol=1e-5) or torch.linalg.det(turn) < 0:
        raise ValueError("rotation must be orthonormal with determinant +1; a mirrored scene has no rotations for it")
    quat = matrix_to_quat(turn)
    return gaussians.replace(
        means=(gaussians.means.double() @ turn.T.to(gaussians.device)).to(gaussians.means),
        raw_quats=quat_product(quat.to(gaussians.raw_quats), gaussians.raw_quats),
        shN=rotate_sh(gaussians.shN, turn),
    )


def half_turn_x(gaussians: Gaussians) -> Gaussians:
    """The scene after half a turn about x (y and z negated): from RDF to RUB axes and back; exact, its own inverse."""
    w, x, y, z = gaussians.raw_quats.unbind(-1)
    signs = gaussians.shN.new_tensor(_HALF_TURN_SIGNS[: gaussians.shN.shape[1]])
    if (origin := gaussians.origin) is not None:
        east, north, up = origin.offset
        origin = dataclasses.replace(origin, offset=(east, 0.0 - north, 0.0 - up))
        gaussians = dataclasses.replace(gaussians, origin=origin)
    return gaussians.replace(
        means=gaussians.means * gaussians.means.new_tensor([1.0, -1.0, -1.0]),
        raw_quats=torch.stack([w, x, -y, -z], dim=-1),
        shN=gaussians.shN * signs[:, None],
    )


def scaled(gaussians: Gaussians, factor: int | float) -> Gaussians:
    """The scene enlarged about the origin.

    Args:
        gaussians: Any scene.
        factor: > 0.
    """
    if not factor > 0:
        raise ValueError(f"factor must be > 0, got {factor}")
    log_factor = torch.tensor(float(factor)).log().to(gaussians.log_scales)
    return gaussians.replace(means=gaussians.means * factor, log_scales=gaussians.log_scales + log_factor)


def translated(gaussians: Gaussians, offset: Float[Tensor, "3"]) -> Gaussians:
    """The scene moved by a world vector."""
    return gaussians.replace(means=gaussians.means + offset.to(gaussians.means))


def matrix_to_quat(rotation: Float[Tensor, "3 3"]) -> Float[Tensor, "4"]:
    """Unit quaternion wxyz of a rotation matrix: the eigenvector of Bar-Itzhack's symmetric matrix (2000), float64."""
    r = rotation.double()
    trace = r.trace()
    matrix = torch.zeros(4, 4, dtype=torch.float64)
    matrix[0, 0] = trace
    matrix[0, 1:] = matrix[1:, 0] = torch.stack([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]])
    matrix[1:, 1:] = r + r.T - trace * torch.eye(3, dtype=torch.float64)
    quat = torch.linalg.eigh(matrix)[1][:, -1]
    return quat if quat[0] >= 0 else -quat


def rotation_matrices(quats: Float[Tensor, "n 4"]) -> Float[Tensor, "n 3 3"]:
    """Rotation matrices, local to world, of unit quaternions wxyz."""
    w, x, y, z = quats.unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], dim=-1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], dim=-1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def quats_along(normals: Float[Tensor, "n 3"]) -> Float[Tensor, "n 4"]:
    """Unit quaternions wxyz that carry the z axis to unit vectors."""
    x, y, z = normals.unbind(-1)
    quats = torch.stack([1 + z, -y, x, torch.zeros_like(z)], dim=-1)
    quats = torch.where((z < -1 + 1e-4)[:, None], quats.new_tensor([0.0, 1.0, 0.0, 0.0]), quats)
    return torch.nn.functional.normalize(quats, dim=-1)


def quat_product(left: Float[Tensor, "*#n 4"], right: Float[Tensor, "*#n 4"]) -> Float[Tensor, "*n 4"]:
    """Hamilton product wxyz: the rotation that does ``right`` first, then ``left``."""
    a, b, c, d = left.unbind(-1)
    e, f, g, h = right.unbind(-1)
    return torch.stack([
        a * e - b * f - c * g - d * h, a * f + b * e + c * h - d * g,
        a * g - b * h + c * e + d * f, a * h + b * g - c * f + d * e,
    ], dim=-1)  # fmt: skip


def morton_order(means: Float[Tensor, "n 3"]) -> Int[Tensor, "n"]:
    """An order in which neighbours in the list are neighbours in space: 10 bits of x, y, z, interleaved."""
    if not len(means):
        return torch.zeros(0, dtype=torch.int64)
    low, high = means.min(dim=0).values, means.max(dim=0).values
    cells = ((means - low) / (high - low).clamp_min(1e-12) * 1023).round().long().clamp(0, 1023)
    codes = torch.zeros(len(means), dtype=torch.int64, device=means.device)
    for bit in range(10):
        for axis in range(3):
            codes |= (cells[:, axis] >> bit & 1) << (3 * bit + axis)
    return codes.argsort(stable=True)
