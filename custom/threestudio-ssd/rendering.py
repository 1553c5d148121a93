"""Gaussians and cameras to images: the one call of the rasteriser that the rest of the project uses."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from .cameras import Cameras
from .gaussians import Gaussians
from .rasterizers import rasterization


def render(
    gaussians: Gaussians,
    cameras: Cameras,
    background: Float[Tensor, "d"],
    colors: Float[Tensor, "n d"] | None = None,
) -> tuple[Float[Tensor, "c h w d"], Float[Tensor, "c h w 1"]]:
    """Render all cameras at once; they must share one size.

    Args:
        gaussians: The scene.
        cameras: Views; their first one's size holds for all.
        background: Colour behind the scene, RGB in [0, 1]; d values when ``colors`` are given.
        colors: Values to blend in place of the scene's spherical harmonics.

    Returns:
        Images, not clamped, and alphas in [0, 1].
    """
    width, height = int(cameras.widths[0]), int(cameras.heights[0])
    count, device = len(cameras), gaussians.device
    values, sh_degree = (gaussians.sh, gaussians.sh_degree) if colors is None else (colors, None)
    images, alphas, _ = rasterization(
        gaussians.means, gaussians.raw_quats, gaussians.scales, gaussians.opacities, values,
        cameras.viewmats.to(device), cameras.Ks.to(device), width, height,
        sh_degree=sh_degree, backgrounds=background.to(device).expand(count, -1),
    )  # fmt: skip
    return images, alphas


@torch.no_grad()
def render_each(
    gaussians: Gaussians, cameras: Cameras, background: Float[Tensor, "3"]
) -> Iterator[Float[Tensor, "h w 3"]]:
    """Images one camera at a time, clamped to [0, 1]; sizes may differ."""
    for index in range(len(cameras)):
        yield render(gaussians, cameras[index], background)[0][0].clamp(0, 1)


@torch.no_grad()
def coverage(
    gaussians: Gaussians, is_selected: Tensor, cameras: Cameras
) -> Float[Tensor, "c h w"]:
    """How much of each pixel the selected Gaussians make up, in [0, 1]; cameras of one size."""
    colors = is_selected.to(gaussians.means)[:, None]
    images = [render(gaussians, cameras[i], torch.zeros(1), colors)[0][0, ..., 0] for i in range(len(cameras))]
    return torch.stack(images)
