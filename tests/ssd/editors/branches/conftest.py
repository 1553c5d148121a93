"""Editors with two branches on tiny twins: SD 1.x, SD 2.x (v-prediction) and SDXL layouts."""

import pytest
import torch

from threestudio_ssd.diffusion import random_backbone
from threestudio_ssd.editors import BranchedBackbone, EditorPrompts, Views

PROMPTS = EditorPrompts("a red ball", "a blue ball", blended="red blue")
TWINS = {"sd1": {}, "sd2": {"prediction_type": "v_prediction"}, "sdxl": {"kind": "sdxl"}}


def network_of(prompts=PROMPTS, **model):
    """A random U-Net with these prompts embedded."""
    return BranchedBackbone(random_backbone(**model), prompts)


@pytest.fixture
def network():
    return network_of()


@pytest.fixture
def picture(generator):
    """Two views as they were before any edit."""
    images = torch.rand(2, 3, 32, 32, generator=generator)
    return Views(images, images, seeds=[4, 5])


@pytest.fixture
def masked(picture):
    """The same with a mask in the middle."""
    masks = torch.zeros(2, 1, 32, 32)
    masks[:, :, 8:24, 8:24] = 1
    return Views(picture.images, picture.sources, picture.seeds, masks=masks)
