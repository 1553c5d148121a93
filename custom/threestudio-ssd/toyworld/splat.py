"""Toy scenes and cameras in the types of the rest of the project."""

from pathlib import Path

import numpy as np
import torch

from ..cameras import Cameras
from ..files import write_json
from ..gaussians import Gaussians
from ..gaussians.sh import sh0_from_rgbs
from .world import ToyCamera, ToyScene


def to_gaussians(scene: ToyScene) -> Gaussians:
    """The scene as Gaussians of SH degree 0."""
    opacities = torch.from_numpy(scene.opacities)
    return Gaussians(
        means=torch.from_numpy(scene.means),
        log_scales=torch.from_numpy(scene.scales).log(),
        raw_quats=torch.from_numpy(scene.quats),
        logit_opacities=torch.logit(opacities),
        sh0=sh0_from_rgbs(torch.from_numpy(scene.rgbs))[:, None],
        shN=torch.zeros(len(opacities), 0, 3),
    )


def to_cameras(cameras: list[ToyCamera], width: int, height: int) -> Cameras:
    """Toy cameras at one image size, pixels; named view_000, view_001, ..."""
    count = len(cameras)
    return Cameras(
        viewmats=torch.from_numpy(np.stack([camera.viewmat for camera in cameras])),
        Ks=torch.from_numpy(np.stack([camera.intrinsics(width, height) for camera in cameras])),
        widths=torch.full((count,), width),
        heights=torch.full((count,), height),
        names=[f"view_{index:03d}" for index in range(count)],
    )


def save_cameras_json(cameras: Cameras, path: Path) -> None:
    """Write cameras in INRIA's ``cameras.json`` layout; principal points must be in the middle."""
    entries = []
    for index, (viewmat, K) in enumerate(zip(cameras.viewmats.double(), cameras.Ks.double(), strict=True)):
        to_world = torch.linalg.inv(viewmat)
        entries.append({
            "id": index, "img_name": cameras.names[index],
            "width": int(cameras.widths[index]), "height": int(cameras.heights[index]),
            "position": [round(float(value), 6) for value in to_world[:3, 3]],
            "rotation": [[round(float(value), 8) for value in row] for row in to_world[:3, :3]],
            "fx": round(float(K[0, 0]), 4), "fy": round(float(K[1, 1]), 4),
        })  # fmt: skip
    write_json(path, entries)
