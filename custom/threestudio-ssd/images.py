"""Images on disk and their sizes: reading, resizing to what a model takes, masks drawn over them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from .early import named, unreadable_image
from .errors import ConfigError
from .files import write_image
from .reading import open_image

LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Weights of red, green and blue (ITU-R BT.709)."""


def read_rgb(path: str | Path, key: str) -> Image.Image:
    """An image file as RGB.

    Args:
        path: The file.
        key: What it was given as, for the message.

    Raises:
        SceneFormatError: If it does not exist or is no image.
    """
    file = Path(named(path))
    if not file.is_file():
        raise unreadable_image(path, key)
    with open_image(file, lambda why: unreadable_image(path, key, why)) as image:
        return image.convert("RGB")


def as_tensor(image: Image.Image) -> Float[Tensor, "1 3 h w"]:
    """An image as a batch of one, in [0, 1]."""
    return torch.from_numpy(np.asarray(image, np.float32) / 255).permute(2, 0, 1)[None]


def read_mask(path: str | Path, key: str, image: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 1 h w"]:
    """A mask file at the size of ``image``, in [0, 1].

    Raises:
        ConfigError: If nothing in it is white.
        SceneFormatError: If it cannot be read.
    """
    height, width = image.shape[-2:]
    mask = read_rgb(path, key).convert("L").resize((width, height), Image.Resampling.BILINEAR)
    values = torch.from_numpy(np.asarray(mask, np.float32) / 255)[None, None].to(image)
    if not (values > 0.5).any():
        raise ConfigError(what=f"mask {path} is black", expected="white where the picture may change", fix="invert it")
    return values


def fitting_size(sides: Sequence[int], shorter: int, multiple: int) -> tuple[int, ...]:
    """Sides with the shorter one at ``shorter`` pixels, each rounded to a multiple, at least one multiple."""
    scale = shorter / min(sides)
    return tuple(max(multiple, round(side * scale / multiple) * multiple) for side in sides)


def resized(images: Float[Tensor, "b d h w"], size: Sequence[int]) -> Float[Tensor, "b d h2 w2"]:
    """Images or masks at another height and width, antialiased, in [0, 1]."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return interpolate(images, tuple(size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def chroma_of(rgbs: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """RGB divided by their sum: what light leaves as it is, whether bright or dim."""
    return rgbs / rgbs.sum(dim=-1, keepdim=True).clamp_min(1e-3)


def luminance(rgbs: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n"]:
    """How bright colours are."""
    return rgbs @ rgbs.new_tensor(LUMINANCE)


def pixels_of(image: Float[Tensor, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """An image in [0, 1] as 8-bit pixels, rounded; values beyond are cut."""
    return (image.detach().cpu().clamp(0, 1) * 255 + 0.5).byte().numpy()


def save_image(path: str | Path, image: Float[Tensor, "h w 3"]) -> None:
    """Write an image, values beyond [0, 1] cut, whole or not at all; the suffix decides the format."""
    write_image(path, pixels_of(image))


def save_rows(path: str | Path, stacks: Iterable[Float[Tensor, "c 3 h w"]]) -> None:
    """Write stacks of images below one another, the images of each side by side; all rows are of one width."""
    rows = [torch.cat(list(stack.permute(0, 2, 3, 1)), dim=1) for stack in stacks]
    save_image(path, torch.cat(rows))
