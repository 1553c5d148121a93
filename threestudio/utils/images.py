"""Tensors and arrays as 8-bit pictures: colour, grey through a colour map, UV checkerboards, grids of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch


def to_numpy(data: Any) -> Any:
    """Tensors as arrays, inside lists and dicts too.

    Raises:
        TypeError: For anything else.
    """
    if data is None or isinstance(data, np.ndarray):
        return data
    if isinstance(data, torch.Tensor):
        return data.detach().cpu().numpy()
    if isinstance(data, list):
        return [to_numpy(item) for item in data]
    if isinstance(data, dict):
        return {key: to_numpy(item) for key, item in data.items()}
    raise TypeError(f"expected an array, a tensor, or a list or dict of them, got {type(data).__name__}")


def to_uint8(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map [low, high] to 0..255, rounding to nearest; NaN becomes 0."""
    if image.dtype == np.uint8:
        return image
    scaled = (np.nan_to_num(image.astype(np.float64), nan=low) - low) / (high - low)
    return (scaled.clip(0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def rgb_picture(image: Any, data_format: str = "HWC", data_range: Sequence[float] = (0, 1)) -> np.ndarray:
    """A colour picture, (h w 3) 8-bit; further groups of three channels go beside it, short ones padded with 0.

    Raises:
        ValueError: If ``data_format`` is neither ``HWC`` nor ``CHW``, or the image has not three axes.
    """
    image = _channel_last(image, data_format)
    pixels = to_uint8(image, *data_range)
    padding = -pixels.shape[2] % 3
    pixels = np.pad(pixels, ((0, 0), (0, 0), (0, padding)))
    return np.concatenate(np.split(pixels, pixels.shape[2] // 3, axis=2), axis=1)


def grayscale_picture(image: Any, data_range: Sequence[float] | None = None, cmap: str | None = "jet") -> np.ndarray:
    """A one-channel image (h w) through a colour map, (h w 3) 8-bit RGB.

    Args:
        image: Values; an extra axis of length 1 at the end is dropped.
        data_range: Values at both ends of the map; the image's own by default.
        cmap: ``jet``, ``magma``, ``viridis``, or None for grey.

    Raises:
        ValueError: If the colour map is another one.
    """
    maps = {"jet": cv2.COLORMAP_JET, "magma": cv2.COLORMAP_MAGMA, "viridis": cv2.COLORMAP_VIRIDIS}
    image = np.nan_to_num(to_numpy(image))
    image = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    low, high = data_range if data_range is not None else (image.min(), image.max())
    pixels = to_uint8(image.astype(np.float64), float(low), max(float(high), float(low) + 1e-12))
    if cmap is None:
        return np.repeat(pixels[..., None], 3, axis=2)
    if cmap not in maps:
        raise ValueError(f"cmap is {cmap!r}; expected one of {', '.join(maps)}, or None for grey")
    return cv2.cvtColor(cv2.applyColorMap(pixels, maps[cmap]), cv2.COLOR_BGR2RGB)


def uv_picture(
    image: Any, data_format: str = "HWC", data_range: Sequence[float] = (0, 1), cmap: str = "checkerboard"
) -> np.ndarray:
    """Two coordinates as a 64-cell checkerboard, or as red and green when ``cmap`` is ``color``."""
    uv = _channel_last(image, data_format).astype(np.float64)
    uv = ((uv - data_range[0]) / (data_range[1] - data_range[0])).clip(0.0, 1.0)
    picture = np.zeros((*uv.shape[:2], 3), dtype=np.uint8)
    if cmap == "color":
        picture[..., :2] = to_uint8(uv[..., :2], 0.0, 1.0)
        return picture
    if cmap != "checkerboard":
        raise ValueError(f"cmap is {cmap!r}; expected checkerboard or color")
    cells = (uv * 64).astype(int)
    picture[:] = 255
    picture[(cells[..., 0] + cells[..., 1]) % 2 == 0] = (255, 0, 255)
    return picture


_PICTURES = {"rgb": rgb_picture, "grayscale": grayscale_picture, "uv": uv_picture}


def picture_grid(cells: Sequence, align: str | int | tuple[int, int] = "max") -> np.ndarray:
    """Pictures side by side; a list of lists gives rows, padded with black to the widest.

    Args:
        cells: Each ``{"type": "rgb"|"grayscale"|"uv", "img": ..., "kwargs": {...}}``.
        align: Common size: of the largest (``max``), the smallest (``min``), a side length, or (height, width). A
            picture of another shape keeps its own, centred on black.

    Raises:
        ValueError: If a type or ``align`` is another one.
    """
    if not isinstance(cells[0], Mapping):
        rows = [picture_grid(row, align) for row in cells]
        width = max(row.shape[1] for row in rows)
        padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
        return np.concatenate(padded, axis=0)
    pictures = []
    for cell in cells:
        if cell["type"] not in _PICTURES:
            raise ValueError(f"type is {cell['type']!r}; expected one of {', '.join(_PICTURES)}")
        pictures.append(_PICTURES[cell["type"]](cell["img"], **cell.get("kwargs", {})))
    height, width = _common_size(pictures, align)
    return np.concatenate([_fitted(picture, height, width) for picture in pictures], axis=1)


def write_texts(picture: np.ndarray, texts: Sequence[object]) -> np.ndarray:
    """Write one text at the top left of each of as many equal rows."""
    picture = np.ascontiguousarray(picture)
    for row, text in enumerate(texts):
        at = (4, picture.shape[0] // len(texts) * row + 16)
        for color, thickness in ((255, 255, 255), 3), ((0, 0, 0), 1):
            cv2.putText(picture, str(text), at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, color, thickness, cv2.LINE_AA)
    return picture


def _channel_last(image: Any, data_format: str) -> np.ndarray:
    if data_format not in ("HWC", "CHW"):
        raise ValueError(f"data_format is {data_format!r}; expected HWC or CHW")
    image = to_numpy(image)
    if image.ndim != 3:
        raise ValueError(f"expected an image with 3 axes, got the shape {image.shape}")
    return image.transpose(1, 2, 0) if data_format == "CHW" else image


def _fitted(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """As large as it may be, in the middle of a black picture of this size."""
    scale = min(height / picture.shape[0], width / picture.shape[1])
    inner = max(round(picture.shape[0] * scale), 1), max(round(picture.shape[1] * scale), 1)
    if picture.shape[:2] != inner:
        picture = cv2.resize(picture, inner[::-1])
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    return np.pad(picture, ((top, height - inner[0] - top), (left, width - inner[1] - left), (0, 0)))


def _common_size(pictures: Sequence[np.ndarray], align: str | int | tuple[int, int]) -> tuple[int, int]:
    heights, widths = zip(*(picture.shape[:2] for picture in pictures), strict=True)
    if align == "max":
        return max(heights), max(widths)
    if align == "min":
        return min(heights), min(widths)
    if isinstance(align, int):
        return align, align
    if isinstance(align, tuple) and len(align) == 2:
        return align
    raise ValueError(f"align is {align!r}; expected max, min, a side length or (height, width)")
