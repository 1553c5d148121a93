"""Scenes and cameras to images: the one call of the rasteriser, or of a radiance field, that all else uses."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .cameras import Cameras
from .fields import RadianceField
from .rasterizers import rasterization
from .scenes import Scene

FIELD_SIZE = 128
"""Shorter side of views of a field in pixels, beyond which its cells only get blurrier."""


def large_enough(scene: Scene, cameras: Cameras) -> Cameras:
    """Views no larger than shows all that there is: each ray of a field costs, and its cells cover many pixels.

    Args:
        scene: What is rendered.
        cameras: Views of one size.
    """
    shorter = int(min(cameras.widths[0], cameras.heights[0]))
    is_larger = isinstance(scene, RadianceField) and shorter > FIELD_SIZE
    return cameras.scaled(FIELD_SIZE / shorter) if is_larger else cameras


def render(
    gaussians: Scene,
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
    return render_with_info(gaussians, cameras, background, colors)[:2]


def render_with_info(
    gaussians: Scene,
    cameras: Cameras,
    background: Float[Tensor, "d"],
    colors: Float[Tensor, "n d"] | None = None,
    sh_degree: int | None = None,
    **options: Any,
) -> tuple[Float[Tensor, "c h w d2"], Float[Tensor, "c h w 1"], dict[str, Any]]:
    """The same with what the rasteriser knows beside the images: ``means2d``, ``gaussian_ids``, ``radii``, ...

    Args:
        gaussians: The scene.
        cameras: Views; their first one's size holds for all.
        background: Colour behind the scene.
        colors: Values to blend in place of the scene's spherical harmonics.
        sh_degree: Degree up to which spherical harmonics are used; None: all.
        **options: More of ``rasterization``, such as ``render_mode="RGB+ED"``; of a field it is the one that counts.
    """
    if isinstance(gaussians, RadianceField):
        images, alphas, depths = gaussians.render(cameras, background, colors, sh_degree)
        return torch.cat([images, depths], -1) if options.get("render_mode") == "RGB+ED" else images, alphas, {}
    if gaussians.is_antialiased:
        options.setdefault("rasterize_mode", "antialiased")
    width, height = int(cameras.widths[0]), int(cameras.heights[0])
    count, device = len(cameras), gaussians.device
    values, degree = (gaussians.sh, gaussians.sh_degree) if colors is None else (colors, None)
    if sh_degree is not None and degree is not None:
        degree = min(sh_degree, degree)
    return rasterization(
        gaussians.means, gaussians.raw_quats, gaussians.scales, gaussians.opacities, values,
        cameras.viewmats.to(device), cameras.Ks.to(device), width, height,
        sh_degree=degree, backgrounds=background.to(device).expand(count, -1), **options,
    )  # fmt: skip


@torch.no_grad()
def render_each(gaussians: Scene, cameras: Cameras, background: Float[Tensor, "3"]) -> Iterator[Float[Tensor, "h w 3"]]:
    """Images one camera at a time, clamped to [0, 1]; sizes may differ."""
    for index in range(len(cameras)):
        yield render(gaussians, cameras[index], background)[0][0].clamp(0, 1)


def render_bchw(gaussians: Scene, cameras: Cameras, background: Float[Tensor, "3"]) -> Float[Tensor, "c 3 h w"]:
    """The same in one stack, channels first, as networks and metrics take them; cameras of one size."""
    return torch.stack(list(render_each(gaussians, cameras, background))).permute(0, 3, 1, 2)


@torch.no_grad()
def coverage(gaussians: Scene, is_selected: Tensor, cameras: Cameras) -> Float[Tensor, "c h w"]:
    """How much of each pixel the selected Gaussians make up, in [0, 1]; cameras of one size."""
    colors = is_selected.to(gaussians.means)[:, None]
    images = [render(gaussians, cameras[i], torch.zeros(1), colors)[0][0, ..., 0] for i in range(len(cameras))]
    return torch.stack(images)


@torch.no_grad()
def render_depths(gaussians: Scene, cameras: Cameras) -> tuple[Float[Tensor, "c h w"], Float[Tensor, "c h w"]]:
    """Depth along the viewing axis, world units, and alpha in [0, 1]; cameras of one size."""
    behind = torch.zeros(3)
    renders = [render_with_info(gaussians, cameras[i], behind, render_mode="RGB+ED") for i in range(len(cameras))]
    return torch.stack([each[0][0, ..., 3] for each in renders]), torch.stack([each[1][0, ..., 0] for each in renders])
