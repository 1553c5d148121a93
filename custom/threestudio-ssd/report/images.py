"""Images as files for people: single ones, and stacks laid out as rows."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from ..files import whole_file


def as_pixels(image: Float[Tensor, "3 h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """An image as 8-bit pixels, rounded; values beyond [0, 1] are cut."""
    return (image.detach().cpu().permute(1, 2, 0).clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy()


def image_rows(*stacks: Float[Tensor, "c 3 h w"]) -> UInt8[np.ndarray, "rows columns 3"]:
    """One row of images for each stack, each row as wide as the others."""
    return as_pixels(torch.cat([torch.cat(list(stack), dim=2) for stack in stacks], dim=1))


def write_image(path: str | Path, pixels: UInt8[np.ndarray, "h w 3"], **options: Any) -> None:
    """Write pixels as the suffix says, whole or not at all; the options are those of the format (``quality=95``)."""
    with whole_file(path) as beside:
        Image.fromarray(pixels).save(beside, **options)


def write_image_rows(path: str | Path, *stacks: Float[Tensor, "c 3 h w"]) -> None:
    """Write one row of images for each stack into one file."""
    write_image(path, image_rows(*stacks))
