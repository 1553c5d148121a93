"""The browser's camera and ours: where somebody looks from, as ``Cameras``; and how to send them elsewhere."""

import math
from typing import Any

import numpy as np
import torch
import viser.transforms
from jaxtyping import Float
from torch import Tensor

from ..cameras import Cameras, Orbit


def camera_of(eye: Any, shorter: int) -> Cameras:
    """What a browser shows, as one camera.

    Args:
        eye: viser's ``CameraHandle``.
        shorter: Its shorter side, pixels.
    """
    aspect = max(eye.aspect, 1e-3)
    width, height = round(shorter * max(aspect, 1)), round(shorter * max(1 / aspect, 1))
    return pinhole(eye.wxyz, eye.position, eye.fov, (width, height))


def pinhole(wxyz: Any, position: Any, fov_y: float, size: tuple[int, int]) -> Cameras:
    """One camera from viser's words.

    Args:
        wxyz: Camera to world, OpenCV axes.
        position: In the world.
        fov_y: Vertical opening angle, radians.
        size: Width and height, pixels.
    """
    width, height = size
    rotation = torch.from_numpy(viser.transforms.SO3(np.asarray(wxyz, np.float64)).as_matrix()).mT
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[:3, :3] = rotation
    viewmat[:3, 3] = -rotation @ torch.as_tensor(np.asarray(position, np.float64))
    focal = height / 2 / math.tan(fov_y / 2)
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    return Cameras(viewmat[None], K[None], torch.tensor([width]), torch.tensor([height]), ["here"])


def pose_of(cameras: Cameras, row: int) -> tuple[np.ndarray, np.ndarray, float, float]:
    """viser's words for one of our cameras: rotation wxyz, position, vertical opening angle in radians, aspect."""
    rotation = cameras.viewmats[row, :3, :3].double().cpu().mT.numpy()
    height, focal = int(cameras.heights[row]), float(cameras.Ks[row, 1, 1])
    fov_y = 2 * math.atan(height / 2 / focal)
    wxyz = viser.transforms.SO3.from_matrix(rotation).wxyz
    return wxyz, cameras.centers[row].double().cpu().numpy(), fov_y, int(cameras.widths[row]) / height


def send(client: Any, cameras: Cameras, row: int, center: Float[Tensor, "3"]) -> None:
    """Put a browser's camera where one of ours is; it turns about the point it sees nearest to ``center``."""
    _, position, fov_y, _ = pose_of(cameras, row)
    forward = cameras.forwards[row].double().cpu().numpy()
    distance = max(float((center.double().cpu().numpy() - position) @ forward), 1e-2)
    with client.atomic():
        client.camera.up_direction = cameras.ups[row].double().cpu().numpy()
        client.camera.position = position
        client.camera.look_at = position + distance * forward
        client.camera.fov = fov_y


def look_from(server: Any, cameras: Cameras, orbit: Orbit) -> None:
    """Let browsers begin at the first of some cameras, turning about the middle of an orbit, its axis upwards."""
    _, position, fov_y, _ = pose_of(cameras, 0)
    up, first = tuple(orbit.up.tolist()), server.initial_camera
    first.position, first.look_at, first.fov, first.up = tuple(position), tuple(orbit.center.tolist()), fov_y, up
    server.scene.set_up_direction(up)
