"""Masks drawn by the user: one picture per view, or one for the view it is named after."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ..cameras import Cameras
from ..errors import SceneFormatError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def load_masks(path: str | Path, cameras: Cameras) -> tuple[Cameras, Float[Tensor, "c h w"]]:
    """Read mask pictures and find the views they belong to.

    Args:
        path: A picture named after a view, or a folder of such pictures; white (or opaque, where the picture is
            transparent elsewhere) is what may change.
        cameras: The capture's views.

    Returns:
        The views that have a mask, at the masks' size, and the masks in [0, 1].

    Raises:
        SceneFormatError: If there is no such picture, no view of its name, or the pictures differ in size.
    """
    path = Path(path)
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
    if not path.exists() or not files:
        raise SceneFormatError(
            what=f"mask.picture {path} {'holds no picture' if path.exists() else 'does not exist'}",
            expected=f"a picture ({' '.join(SUFFIXES)}) named after a view, or a folder of them",
            fix="check the path",
        )
    rows = {Path(name).stem: index for index, name in enumerate(cameras.names)}
    for file in files:
        if file.stem not in rows:
            raise SceneFormatError(
                what=f"mask {file} belongs to no view",
                expected=f"the name of one of {len(rows)} views, such as {next(iter(rows), 'none')}",
                fix="name the mask after its view, and set cameras to the capture it was drawn on",
            )
    masks = [_read(file) for file in files]
    sizes = {mask.shape for mask in masks}
    if len(sizes) > 1:
        raise SceneFormatError(
            what=f"masks in {path} have different sizes: {sorted(sizes)}", expected="one size", fix="resize them"
        )
    height, width = masks[0].shape
    views = cameras[[rows[file.stem] for file in files]].resized(width, height)
    return views, torch.from_numpy(np.stack(masks))


def _read(file: Path) -> np.ndarray:
    try:
        with Image.open(file) as picture:
            has_alpha = picture.mode in ("RGBA", "LA") and np.asarray(picture.getchannel("A")).min() < 255
            channel = picture.getchannel("A") if has_alpha else picture.convert("L")
            return np.asarray(channel, np.float32) / 255
    except (UnidentifiedImageError, OSError) as cause:
        raise SceneFormatError(
            what=f"mask {file} cannot be read as a picture", expected="a PNG or JPEG", fix="save it again as PNG"
        ) from cause
