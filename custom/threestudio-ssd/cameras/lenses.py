"""Lenses: how the photograph on disk differs from the pinhole camera that a splat is drawn with, and undoing it.

A lens maps directions to pixels. The pinhole camera kept in ``Cameras`` has the focal lengths and the principal point
of the lens and no distortion; the photograph is resampled to it when it is read.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import SceneFormatError
from .photographs import open_photograph

NARROW_MODELS = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV", "SIMPLE_DIVISION",
                 "DIVISION")  # fmt: skip
"""Models that are a pinhole when all their coefficients are zero."""
FISHEYE_MODELS = ("SIMPLE_FISHEYE", "FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "OPENCV_FISHEYE",
                  "THIN_PRISM_FISHEYE", "RAD_TAN_THIN_PRISM_FISHEYE")  # fmt: skip
MODELS = (*NARROW_MODELS, *FISHEYE_MODELS, "FOV", "EUCM")
"""Every model that can be undone; an equirectangular panorama cannot become one pinhole image."""


@dataclass(frozen=True)
class Lens:
    """A camera as it was calibrated.

    Attributes:
        model: COLMAP's name, for example ``OPENCV``.
        params: Distortion coefficients in COLMAP's order, without focal lengths and principal point.
        focal: fx, fy in pixels of the calibrated size.
        principal: cx, cy in the same pixels, corner of the photograph at (0, 0).
        size: Calibrated width and height; a photograph of another size is scaled.
    """

    model: str
    params: tuple[float, ...]
    focal: tuple[float, float]
    principal: tuple[float, float]
    size: tuple[int, int]

    @property
    def is_pinhole(self) -> bool:
        """Whether there is nothing to undo."""
        return not any(self.params) and self.model in NARROW_MODELS

    @property
    def K(self) -> Float[Tensor, "3 3"]:
        """Intrinsics in pixels of the calibrated size, float64."""
        (fx, fy), (cx, cy) = self.focal, self.principal
        return torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)


def distort(model: str, params: tuple[float, ...], xy: Float[Tensor, "*p 2"]) -> Float[Tensor, "*p 2"]:
    """Where a lens puts directions, in units of the focal length (COLMAP's camera models).

    Args:
        model: COLMAP's name.
        params: Its distortion coefficients.
        xy: Directions as (x/z, y/z).
    """
    x, y = xy.unbind(-1)
    r2 = x * x + y * y
    if model in FISHEYE_MODELS:
        return _distort_fisheye(model, params, x, y)
    match model:
        case "SIMPLE_RADIAL" | "RADIAL" | "OPENCV" | "FULL_OPENCV":
            k1, k2, p1, p2, k3, k4, k5, k6 = (*params, *[0.0] * (8 - len(params)))
            factor = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
            dx = 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
            dy = 2 * p2 * x * y + p1 * (r2 + 2 * y * y)
            return torch.stack([x * factor + dx, y * factor + dy], dim=-1)
        case "SIMPLE_DIVISION" | "DIVISION":  # undistorted = distorted / (1 + k r_distorted^2), solved for distorted
            (k,) = params
            return xy * (2 / (1 + (1 - 4 * k * r2).clamp_min(0).sqrt()))[..., None]
        case "FOV":
            (omega,) = params
            radius = r2.sqrt().clamp_min(1e-12)
            factor = torch.atan(radius * 2 * math.tan(omega / 2)) / (radius * omega) if omega else torch.ones_like(x)
            return xy * factor[..., None]
        case "EUCM":
            alpha, beta = params
            return xy / (alpha * (beta * r2 + 1).sqrt() + (1 - alpha))[..., None]
    return xy


def _distort_fisheye(model: str, params: tuple[float, ...], x: Tensor, y: Tensor) -> Tensor:
    """Equidistant projection, then polynomials of the angle."""
    radius = (x * x + y * y).sqrt().clamp_min(1e-12)
    theta = torch.atan(radius)
    u, v = x * theta / radius, y * theta / radius
    r2 = theta * theta
    p1 = p2 = sx1 = sy1 = 0.0
    if model == "RAD_TAN_THIN_PRISM_FISHEYE":
        radial, (p0, p1, s0, s1, s2, s3) = params[:6], params[6:]
        factor = 1 + sum(k * r2 ** (i + 1) for i, k in enumerate(radial))
        u, v = u * factor, v * factor
        r2 = u * u + v * v
        du = p0 * (2 * u * u + r2) + 2 * p1 * u * v + s0 * r2 + s1 * r2 * r2
        dv = p1 * (2 * v * v + r2) + 2 * p0 * u * v + s2 * r2 + s3 * r2 * r2
        return torch.stack([u + du, v + dv], dim=-1)
    if model == "THIN_PRISM_FISHEYE":
        k1, k2, p1, p2, k3, k4, sx1, sy1 = params
    else:
        k1, k2, k3, k4 = (*params, *[0.0] * (4 - len(params)))
    factor = 1 + r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4)))
    dx = 2 * p1 * u * v + p2 * (r2 + 2 * u * u) + sx1 * r2
    dy = 2 * p2 * u * v + p1 * (r2 + 2 * v * v) + sy1 * r2
    return torch.stack([u * factor + dx, v * factor + dy], dim=-1)


def read_photograph(
    path: Path | None, name: str, lens: Lens | None, K: Float[Tensor, "3 3"], size: tuple[int, int],
    background: Float[Tensor, "3"],
) -> Float[Tensor, "h w 3"]:  # fmt: skip
    """The part of a photograph that a pinhole camera sees, float32 in [0, 1].

    Args:
        path: The photograph; transparent ones are composited on the background.
        name: Name of the view, for messages.
        lens: How the photograph was taken; None: by this very camera, at this or another size.
        K: Intrinsics of the pinhole camera.
        size: Its width and height.
        background: RGB in [0, 1].
    """
    if path is None or not path.exists():
        raise SceneFormatError(
            what=f"view {name} has no picture{'' if path is None else f' at {path}'}",
            expected="a photograph for every view",
            fix="put the pictures where the camera file says, or use renders instead of photographs",
        )
    with open_photograph(path, None if lens is None else lens.size) as file:
        photograph = file.convert("RGBA") if file.mode in ("RGBA", "LA", "P", "PA") else file.convert("RGB")
    values = torch.from_numpy(np.array(photograph, dtype=np.float32)).div_(255)
    if values.shape[-1] == 4:
        values = values[..., :3] * values[..., 3:] + background.cpu() * (1 - values[..., 3:])
    return undistort(values, lens, K, size)


def undistort(
    image: Float[Tensor, "h0 w0 d"], lens: Lens | None, K: Float[Tensor, "3 3"], size: tuple[int, int]
) -> Float[Tensor, "h w d"]:
    """Resample a photograph to a pinhole camera: distortion, size and crop in one go; outside it is 0.

    Args:
        image: As on disk, or a mask drawn over it; any number of channels.
        lens: Its lens, or None if only the size may differ.
        K: Intrinsics of the pinhole camera.
        size: Its width and height.
    """
    height0, width0 = image.shape[:2]
    width, height = size
    if lens is None:
        if (width, height) == (width0, height0):
            return image
        return _shrink(image, width, height)
    K = K.double()
    sx, sy = width0 / lens.size[0], height0 / lens.size[1]
    # Draw at (at most) the image's own resolution first, then shrink with a filter: no aliasing.
    finer = max(1, round(lens.focal[0] * sx / float(K[0, 0])))
    if finer == 1 and lens.is_pinhole and size == (width0, height0) and _same_view(lens, K, sx, sy):
        return image
    u = (torch.arange(width * finer, dtype=torch.float64) + 0.5) / finer
    v = (torch.arange(height * finer, dtype=torch.float64) + 0.5) / finer
    x, y = torch.meshgrid((u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], indexing="xy")
    xy = distort(lens.model, lens.params, torch.stack([x, y], dim=-1))
    grid_x = (xy[..., 0] * lens.focal[0] + lens.principal[0]) * sx * 2 / width0 - 1
    grid_y = (xy[..., 1] * lens.focal[1] + lens.principal[1]) * sy * 2 / height0 - 1
    drawn = torch.nn.functional.grid_sample(
        image.permute(2, 0, 1)[None],
        torch.stack([grid_x, grid_y], dim=-1).to(image.dtype)[None],
        mode="bilinear", padding_mode="zeros", align_corners=False,
    )[0].permute(1, 2, 0)  # fmt: skip
    return drawn if finer == 1 else _shrink(drawn, width, height)


def _same_view(lens: Lens, K: Tensor, sx: float, sy: float) -> bool:
    scaled = lens.K * torch.tensor([[sx], [sy], [1.0]], dtype=torch.float64)
    return bool(torch.allclose(scaled, K, rtol=1e-6, atol=1e-4))


def _shrink(image: Tensor, width: int, height: int) -> Tensor:
    channel_first = image.permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(
        channel_first, (height, width), mode="bilinear", antialias=True, align_corners=False
    )
    return resized[0].permute(1, 2, 0).clamp(0, 1)
