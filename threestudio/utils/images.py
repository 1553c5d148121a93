"""Tensors and arrays as 8-bit pictures, and grids of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch


def to_numpy(data: Any) -> np.ndarray:
    """A tensor or an array as an array.

    Raises:
        TypeError: For anything else.
    """
    if isinstance(data, np.ndarray):
        return data
    if isinstance(data, torch.Tensor):
        return data.detach().cpu().numpy()
    raise TypeError(f"expected an array or a tensor, got {type(data).__name__}")


def rgb_picture(image: Any) -> np.ndarray:
    """A colour image (h w 3), 8-bit or with values in [0, 1], as 8-bit pixels; rounded to nearest, NaN becomes 0.

    Raises:
        ValueError: If it has another shape.
    """
    image = to_numpy(image)
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected an image (h w 3), got the shape {image.shape}")
    if image.dtype == np.uint8:
        return image
    return (np.nan_to_num(image.astype(np.float64), nan=0.0).clip(0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def picture_grid(cells: Sequence) -> np.ndarray:
    """Pictures side by side, all as large as the largest; a list of lists gives rows, padded with black to the widest.

    A picture of another shape keeps its own, centred on black.

    Args:
        cells: Each ``{"type": "rgb", "img": ...}``.

    Raises:
        ValueError: If a type is another one.
    """
    if not isinstance(cells[0], Mapping):
        rows = [picture_grid(row) for row in cells]
        width = max(row.shape[1] for row in rows)
        padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
        return np.concatenate(padded, axis=0)
    for cell in cells:
        if cell["type"] != "rgb":
            raise ValueError(f"type is {cell['type']!r}; expected rgb")
    pictures = [rgb_picture(cell["img"]) for cell in cells]
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    return np.concatenate([_fitted(picture, height, width) for picture in pictures], axis=1)


def _fitted(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """As large as it may be, in the middle of a black picture of this size."""
    scale = min(height / picture.shape[0], width / picture.shape[1])
    inner = max(round(picture.shape[0] * scale), 1), max(round(picture.shape[1] * scale), 1)
    if picture.shape[:2] != inner:
        picture = cv2.resize(picture, inner[::-1])
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    return np.pad(picture, ((top, height - inner[0] - top), (left, width - inner[1] - left), (0, 0)))
