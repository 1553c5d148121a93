"""Renders the pictures of ``toy_pairs.npz``: run it from the repository's root with PYTHONPATH set to it.

Six edits of toy scenes; of each the source, the scene that the target prompt describes, and a wrong edit, one camera,
64x64, uint8, with the object's mask in the source. Seeds below; the renderer is the project's own.
"""

from pathlib import Path

import numpy as np
import torch

import threestudio

threestudio.load_plugins()

from threestudio_ssd.rendering import render
from threestudio_ssd.toyworld import PART_OBJECT, Attributes, build_scene, orbit_camera
from threestudio_ssd.toyworld.splat import to_cameras, to_gaussians

SEED = 910_003
EDITS = (
    (Attributes("ball", "red", "plain", "grass", "day"), {"color": "blue"}, {"color": "yellow"}),
    (Attributes("cube", "yellow", "plain", "snow", "day"), {"pattern": "checkered"}, {"ground": "wood"}),
    (Attributes("car", "white", "plain", "wood", "sunset"), {"color": "purple"}, {"color": "orange"}),
    (Attributes("mushroom", "red", "dotted", "grass", "day"), {"time": "night"}, {"time": "sunset"}),
    (Attributes("cone", "orange", "striped", "sand", "day"), {"ground": "snow"}, {"ground": "grass"}),
    (Attributes("tree", "green", "plain", "sand", "day"), {"object": "house"}, {"object": "donut"}),
)


def picture(attributes: Attributes, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The picture, uint8, and the object's mask."""
    scene = build_scene(attributes, seed)
    gaussians = to_gaussians(scene)
    camera = to_cameras([orbit_camera(37.0 * seed, 24.0)], 64, 64)
    image = render(gaussians, camera, torch.zeros(3))[0][0].clamp(0, 1)
    is_object = torch.from_numpy(scene.parts == PART_OBJECT).float()[:, None]
    mask = render(gaussians, camera, torch.zeros(1), is_object)[0][0, ..., 0]
    return (image * 255 + 0.5).byte().numpy(), (mask > 0.5).numpy()


with torch.no_grad():
    rows = [
        [picture(scene, SEED + index) for scene in (source, source._replace(**target), source._replace(**wrong))]
        for index, (source, target, wrong) in enumerate(EDITS)
    ]
np.savez_compressed(
    Path(__file__).with_name("toy_pairs.npz"),
    images=np.stack([[image for image, _ in row] for row in rows]),
    source_masks=np.stack([row[0][1] for row in rows]),
    labels=np.array([
        [scene.labels() for scene in (source, source._replace(**target), source._replace(**wrong))]
        for source, target, wrong in EDITS
    ]),
)  # fmt: skip
