"""An image editor that knows the truth: whatever it is given, it shows a toy scene of its choice."""

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch

from threestudio_ssd.diffusion import Counters
from threestudio_ssd.editors import ImageEditor
from threestudio_ssd.editors.editor import EditorNetwork
from threestudio_ssd.rendering import render_bchw
from threestudio_ssd.toyworld import PART_OBJECT, Attributes, build_scene
from threestudio_ssd.toyworld.splat import to_gaussians

SIZE = 48


@cache
def toy_truth(words, scene_seed=0):
    """A toy scene, and which of its Gaussians are the object."""
    scene = build_scene(Attributes.from_words(words), scene_seed)
    return to_gaussians(scene), torch.from_numpy(scene.parts == PART_OBJECT)


class NoNetwork(EditorNetwork):
    """Computes nothing."""

    image_size, size_multiple = SIZE, 8

    def __init__(self, prompts):
        self.prompts, self.counters = prompts, Counters()

    @property
    def provenance(self):
        return {"model": None, "revision": None}


@dataclass(frozen=True)
class Oracle(ImageEditor):
    """Shows the scene of these words, a little brighter at each call, every view in a light of its own."""

    words: str = "red plain cone grass day"
    scene_seed: int = 0
    flicker: float = 0.0
    """How much every other view is darker."""
    takes_orders: bool = False

    needs: ClassVar = frozenset({"cameras", "depths", "names"})
    asked: ClassVar = []
    """The target prompts that it was loaded with."""
    shown: ClassVar = []
    """The target prompts of its calls."""

    @property
    def reads_instruction(self):
        return self.takes_orders

    def load(self, keys, device, prompts, words=()):
        self.asked.append(prompts.target)
        return NoNetwork(prompts)

    def edit(self, network, views):
        assert views.masks is None or views.depths.shape == views.masks.shape
        assert views.names == views.cameras.names
        self.shown.append(network.prompts.target)
        images = render_bchw(toy_truth(self.words, self.scene_seed)[0], views.cameras, torch.zeros(3))
        images[::2] -= self.flicker
        return (images + 0.01 * views.round + 0.01 * views.images.mean()).clamp(0, 1)
