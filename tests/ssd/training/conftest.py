"""Photographs for the autoencoder's training."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """A folder of one photograph, noise of 160x144 pixels."""
    folder = tmp_path_factory.mktemp("photographs")
    pixels = np.random.default_rng(0).integers(0, 256, (144, 160, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.jpg")
    return folder
