"""Views to edit: small random images, a mask in their middle, and something else to keep around it."""

from dataclasses import replace

import pytest
import torch

from threestudio_ssd.editors import Views


@pytest.fixture
def views(generator):
    images = torch.rand(3, 3, 32, 32, generator=generator)
    sources = torch.rand(3, 3, 32, 32, generator=generator)
    masks = torch.zeros(3, 1, 32, 32)
    masks[:, :, 8:24, 8:24] = 1
    return Views(images, sources, seeds=[4, 5, 6], strength=0.6, masks=masks, kept=1 - images)


@pytest.fixture
def whole(views):
    """The same without masks."""
    return replace(views, masks=None, kept=None)
