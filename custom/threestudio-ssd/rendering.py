"""Scenes and cameras to images: the one call of the rasteriser, or of a radiance field, that all else uses."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .cameras import Cameras
from .fields import RadianceField
from .gaussians import Gaussians, rotation_matrices
from .rasterizers import rasterization
from .scenes import Scene

NUM_SIGMAS = 3.0
"""How far a Gaussian is taken to reach."""
LEAST_INVERSE = 1e-6
"""Inverse depth, 1 / world units, up to which a pixel shows nothing."""
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
        **options: More of ``rasterization``; a field has none.
    """
    if isinstance(gaussians, RadianceField):
        images, alphas, _ = gaussians.render(cameras, background, colors, sh_degree)
        return images, alphas, {}
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
def render_depths(scene: Scene, cameras: Cameras) -> tuple[Float[Tensor, "c h w"], Float[Tensor, "c h w"]]:
    """Depth along the viewing axis, world units, and alpha in [0, 1]; cameras of one size.

    A Gaussian counts by the depth at which a pixel's ray passes it, not by that of its middle: middles of a ground that
    is seen at a slant are nearer than what the ray meets, as those in front are blended first. 0 where nothing is.
    """
    both = [_depths_of(scene, cameras[place]) for place in range(len(cameras))]
    return torch.stack([depths for depths, _ in both]), torch.stack([alphas for _, alphas in both])


def _depths_of(scene: Scene, camera: Cameras) -> tuple[Float[Tensor, "h w"], Float[Tensor, "h w"]]:
    if isinstance(scene, RadianceField):
        _, alphas, depths = scene.render(camera, torch.zeros(3), None, None)
        return depths[0, ..., 0], alphas[0, ..., 0]
    blended, alphas, _ = render_with_info(scene, camera, torch.zeros(3), inverse_depth_planes(scene, camera))
    height, width = alphas.shape[1:3]
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).to(blended)
    inverse = (blended[0] * pixels).sum(-1)
    depths = alphas[0, ..., 0] / inverse.clamp_min(LEAST_INVERSE)
    return torch.where(inverse > LEAST_INVERSE, depths, 0.0), alphas[0, ..., 0]


def inverse_depth_planes(gaussians: Gaussians, camera: Cameras) -> Float[Tensor, "n 3"]:
    """Per Gaussian a, b, c, so that a pixel (x, y) sees it at the inverse depth a x + b y + c.

    It is the plane through its middle in which it is densest along rays near that (Zhang et al. 2024, arXiv:2406.01467,
    section 3.2): that of the disc, for a flat one, for a round one that which faces the camera. Where it is seen on
    edge the plane is less steep, so that nothing of it is more than twice as near as its middle, or behind the camera.

    Args:
        gaussians: The scene.
        camera: A single one.
    """
    viewmat, K = camera.viewmats[0].to(gaussians.means), camera.Ks[0].to(gaussians.means)
    means = gaussians.means @ viewmat[:3, :3].T + viewmat[:3, 3]
    axes = viewmat[:3, :3] @ rotation_matrices(gaussians.quats)
    along = (axes.mT @ means[..., None])[..., 0] / gaussians.scales.square()
    normals = (axes @ along[..., None])[..., 0]
    slopes = (normals @ torch.linalg.inv(K) / (normals * means).sum(-1, keepdim=True).clamp_min(1e-12))[:, :2]
    depths = means[:, 2:].clamp_min(1e-6)
    radii = NUM_SIGMAS * K[0, 0] * gaussians.scales.amax(-1, keepdim=True) / depths + 1
    steepest = 1 / (depths * radii)
    slopes = slopes * (steepest / slopes.norm(dim=-1, keepdim=True).clamp_min(1e-12)).clamp(max=1)
    pixels = (means @ K.T)[:, :2] / depths
    return torch.cat([slopes, 1 / depths - (slopes * pixels).sum(-1, keepdim=True)], dim=-1)
