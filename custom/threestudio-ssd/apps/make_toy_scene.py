"""Writes an embedded scene: splat, cameras, masks of its object, and one view as an image."""

from dataclasses import dataclass
from pathlib import Path

import threestudio
from threestudio.utils.base import Configurable

from ..errors import ConfigError
from ..toyworld import ATTRIBUTES, Attributes
from ..toyworld.capture import write_scene


@threestudio.register("app-make-toy-scene")
class MakeToyScene(Configurable):
    """Write a toy scene: splat, cameras, masks, one view."""

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
