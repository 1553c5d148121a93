"""Writes an embedded scene: splat, cameras, mask pictures of its object, and one view as a picture."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import threestudio
from threestudio.utils.base import Configurable

from ..errors import ConfigError
from ..gaussians.io import save_gaussians
from ..rendering import coverage, render_each
from ..toyworld import ATTRIBUTES, PART_OBJECT, Attributes, build_scene, sample_camera
from ..toyworld.splat import save_cameras_json, to_cameras, to_gaussians

NUM_CAMERAS, NUM_MASKS, CAPTURE_SIZE, MASK_SIZE = 96, 12, 512, 256
CAMERA_SEED = 77


def write_scene(folder: Path, attributes: Attributes, seed: int) -> None:
    """``scene.ply``, ``cameras.json``, ``view.png`` and ``masks/view_*.png`` of one toy scene.

    Args:
        folder: Where the files go.
        attributes: What the scene shows.
        seed: Decides what the attributes leave open.
    """
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    scene = build_scene(attributes, seed)
    gaussians = to_gaussians(scene)
    save_gaussians(gaussians, folder / "scene.ply")
    rng = np.random.default_rng(CAMERA_SEED)
    cameras = to_cameras([sample_camera(rng) for _ in range(NUM_CAMERAS)], CAPTURE_SIZE, CAPTURE_SIZE)
    save_cameras_json(cameras, folder / "cameras.json")
    picture = next(render_each(gaussians, cameras.resized(MASK_SIZE, MASK_SIZE), torch.zeros(3)))
    Image.fromarray((picture.numpy() * 255).round().astype(np.uint8)).save(folder / "view.png")
    some = cameras[torch.arange(0, NUM_CAMERAS, NUM_CAMERAS // NUM_MASKS)].resized(MASK_SIZE, MASK_SIZE)
    shown = coverage(gaussians, torch.from_numpy(scene.parts == PART_OBJECT), some)
    for name, mask in zip(some.names, shown, strict=True):
        Image.fromarray((mask.numpy() > 0.5).astype(np.uint8) * 255).save(folder / "masks" / f"{name}.png")


@threestudio.register("app-make-toy-scene")
class MakeToyScene(Configurable):
    """Write a toy scene: splat, cameras, masks, one picture."""

    needs_config = False

    @dataclass
    class Config:
        """Keys of the scene."""

        out: str = "data/toy-scene"
        """Folder it is written to."""
        object: str = "ball"
        """ball cube cone cylinder donut mushroom snowman tree house car"""
        color: str = "red"
        """red orange yellow green blue purple pink white"""
        pattern: str = "plain"
        """plain striped checkered dotted"""
        ground: str = "grass"
        """grass sand snow wood"""
        time: str = "day"
        """day night sunset"""
        seed: int = 3
        """Decides size, yaw, sun and texture."""

    def __call__(self, experiment: object) -> int:
        """Write it."""
        words = {name: self.cfg[name] for name in ATTRIBUTES}
        for name, word in words.items():
            if word not in ATTRIBUTES[name]:
                raise ConfigError(
                    what=f"{name} is {word!r}", expected=f"one of {' '.join(ATTRIBUTES[name])}", fix=f"set {name}=..."
                )
        write_scene(Path(self.cfg.out), Attributes(**words), self.cfg.seed)
        threestudio.info(f"The scene is in {self.cfg.out}.")
        return 0
