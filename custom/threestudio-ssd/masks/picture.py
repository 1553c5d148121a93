"""Masks drawn by the user: one image per view, or one for the view it is named after."""

import math
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import threestudio

from ..cameras import Cameras, Lens, concatenate
from ..cameras.lenses import undistort
from ..cameras.photographs import has_other_aspect, laid_as, views_of
from ..early import mask_images, named
from ..errors import SceneFormatError
from ..reading import MAX_PHOTOGRAPH, open_image


def load_masks(path: str | Path, cameras: Cameras) -> tuple[Cameras, Float[Tensor, "c h w"], Float[Tensor, "c h w"]]:
    """Read mask images and find the views they belong to, by the rule of ``views_of``.

    Masks of photographs that no camera was matches for are left out, and counted in a warning.

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
        SceneFormatError: If there is no such image, it cannot be read, its name fits several views, or all fit none.
    """
    files, rows = _views_of_masks(path, cameras)
    masks = [_read(file, cameras[row]) for file, row in zip(files, rows, strict=True)]
    height, width = (max(sides) for sides in zip(*(mask.shape for mask in masks), strict=True))
    views, drawn, inside = [], [], []
    for row, mask in zip(rows, masks, strict=True):
        view = cameras[row].resized(mask.shape[1], mask.shape[0]).cropped(0, 0, width, height)
        both = torch.stack([mask, torch.ones_like(mask)], dim=-1)
        lens = view.lenses[0] or _pinhole(cameras[row])
        pixels, share_inside = undistort(both, lens, view.Ks[0].cpu(), (width, height)).unbind(-1)
        views.append(view)
        drawn.append(pixels)
        inside.append(share_inside)
    return concatenate(views), torch.stack(drawn), torch.stack(inside)


def _views_of_masks(path: str | Path, cameras: Cameras) -> tuple[list[Path], list[int]]:
    """The mask images that have a view, and the row of each."""
    images, folder = mask_images(path), named(path)
    files = [PurePosixPath(file.relative_to(folder) if folder.is_dir() else file.name) for file in images]
    matches = views_of(files, cameras.names)
    for image, rows in zip(images, matches, strict=True):
        if len(rows) > 1:
            both = " and ".join(cameras.names[row] for row in rows[:2])
            expected, fix = "the name of one view, with its folder", "put the mask into a folder named as the view's"
            raise SceneFormatError(what=f"mask {image} may belong to {both}", expected=expected, fix=fix)
    without = [image for image, rows in zip(images, matches, strict=True) if not rows]
    if len(without) == len(images):
        expected = f"the name of one of {len(cameras)} views, such as {next(iter(cameras.names), 'none')}"
        fix = "name the mask after its view, and set cameras to the capture it was drawn on"
        raise SceneFormatError(what=f"mask {without[0]} belongs to no view", expected=expected, fix=fix)
    if without:
        threestudio.warn(f"{len(without)} of {len(images)} masks in {path} have no view, such as {without[0].name}.")
    pairs = [(image, rows[0]) for image, rows in zip(images, matches, strict=True) if rows]
    twice = next((row for image, row in pairs if [r for _, r in pairs].count(row) > 1), None)
    if twice is not None:
        first, second = [image for image, row in pairs if row == twice][:2]
        what = f"masks {first} and {second} both belong to {cameras.names[twice]}"
        raise SceneFormatError(what=what, expected="one mask for a view", fix="remove one of them")
    return [image for image, _ in pairs], [row for _, row in pairs]


def _pinhole(camera: Cameras) -> Lens:
    """The lens of a photograph that this very camera took."""
    (fx, _, cx), (_, fy, cy), _ = camera.Ks[0].tolist()
    return Lens("PINHOLE", (), (fx, fy), (cx, cy), (int(camera.widths[0]), int(camera.heights[0])))


def _read(file: Path, camera: Cameras) -> Float[Tensor, "h w"]:
    """A mask as its camera sees it: one that was drawn over a photograph lying on its side is laid down as well."""

    def refuse(why: str) -> SceneFormatError:
        what = f"mask {file} cannot be read as a picture ({why})"
        return SceneFormatError(what=what, expected="a PNG or JPEG", fix="save it again as PNG")

    with open_image(file, refuse) as image:
        has_alpha = image.mode in ("RGBA", "LA") and np.asarray(image.getchannel("A")).min() < 255
        grey = image.getchannel("A") if has_alpha else image.convert("L")
        factor = math.ceil(math.sqrt(grey.width * grey.height / MAX_PHOTOGRAPH))  # as many pixels as a photograph has
        channel = np.asarray(grey.reduce(factor) if factor > 1 else grey, np.float32)
    mask, photograph, lens = torch.from_numpy(channel / 255), camera.image_paths[0], camera.lenses[0]
    if photograph is None or lens is None or not has_other_aspect((mask.shape[1], mask.shape[0]), lens.size):
        return mask
    return torch.from_numpy(laid_as(mask.numpy(), photograph, lens.size))
