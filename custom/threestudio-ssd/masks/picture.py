"""Masks drawn by the user: one image per view, or one for the view it is named after."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..cameras import Cameras, Lens, concatenate
from ..cameras.lenses import undistort
from ..early import mask_images
from ..errors import SceneFormatError
from ..reading import open_image


def load_masks(path: str | Path, cameras: Cameras) -> tuple[Cameras, Float[Tensor, "c h w"], Float[Tensor, "c h w"]]:
    """Read mask images and find the views they belong to.

    A mask is drawn over the photograph as it is on disk, so that the photograph's lens is undone in it as well. Masks
    of several sizes (portraits among landscapes) share a canvas as wide and high as the largest.

    Args:
        path: An image named after a view, or a folder of such images; white (or opaque, where the image is
            transparent elsewhere) is what may change.
        cameras: The capture's views.

    Returns:
        The views that have a mask, at the masks' size; the masks in [0, 1]; and how much of each pixel lies inside
        the mask image, in [0, 1]: beyond it nobody knows what may change.

    Raises:
        SceneFormatError: If there is no such image, it cannot be read, or no view has its name.
    """
    files = mask_images(path)
    rows = {Path(name).stem: index for index, name in enumerate(cameras.names)}
    for file in files:
        if file.stem not in rows:
            expected = f"the name of one of {len(rows)} views, such as {next(iter(rows), 'none')}"
            fix = "name the mask after its view, and set cameras to the capture it was drawn on"
            raise SceneFormatError(what=f"mask {file} belongs to no view", expected=expected, fix=fix)
    masks = [_read(file) for file in files]
    height, width = (max(sides) for sides in zip(*(mask.shape for mask in masks), strict=True))
    views, drawn, inside = [], [], []
    for file, mask in zip(files, masks, strict=True):
        view = cameras[rows[file.stem]].resized(mask.shape[1], mask.shape[0]).cropped(0, 0, width, height)
        both = torch.stack([mask, torch.ones_like(mask)], dim=-1)
        lens = view.lenses[0] or _pinhole(cameras[rows[file.stem]])
        pixels, share_inside = undistort(both, lens, view.Ks[0].cpu(), (width, height)).unbind(-1)
        views.append(view)
        drawn.append(pixels)
        inside.append(share_inside)
    return concatenate(views), torch.stack(drawn), torch.stack(inside)


def _pinhole(camera: Cameras) -> Lens:
    """The lens of a photograph that this very camera took."""
    (fx, _, cx), (_, fy, cy), _ = camera.Ks[0].tolist()
    return Lens("PINHOLE", (), (fx, fy), (cx, cy), (int(camera.widths[0]), int(camera.heights[0])))


def _read(file: Path) -> Float[Tensor, "h w"]:
    def refuse(why: str) -> SceneFormatError:
        what = f"mask {file} cannot be read as a picture ({why})"
        return SceneFormatError(what=what, expected="a PNG or JPEG", fix="save it again as PNG")

    with open_image(file, refuse) as image:
        has_alpha = image.mode in ("RGBA", "LA") and np.asarray(image.getchannel("A")).min() < 255
        channel = np.asarray(image.getchannel("A") if has_alpha else image.convert("L"), np.float32)
    return torch.from_numpy(channel / 255)
