"""What fitting pictures needs: the loss, and Gaussians to start from."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..gaussians import Gaussians, sh0_from_rgbs
from ..metrics.ssim import WINDOW, ssim_map
from ..neighbors import Neighbors


def photometric_loss(
    images: Float[Tensor, "b h w 3"],
    targets: Float[Tensor, "b h w 3"],
    lambda_ssim: float,
    inside: Bool[Tensor, "b h w"] | None = None,
) -> Float[Tensor, ""]:
    """(1 - λ) L1 + λ (1 - SSIM), as 3D Gaussian splatting is trained (Kerbl et al. 2023, Eq. 7).

    Args:
        images: Renders.
        targets: What they should look like, [0, 1].
        lambda_ssim: λ in [0, 1]; 0.2 in the paper. Pictures too small for SSIM's window get L1 alone.
        inside: Pixels that the targets show; None: all. Others have no part in the loss and get no gradient.
    """
    if inside is not None:
        images, targets = (torch.where(inside[..., None], pictures, 0.0) for pictures in (images, targets))
    l1 = mean_inside((images - targets).abs(), inside)
    if lambda_ssim == 0 or min(images.shape[1:3]) < WINDOW:
        return l1
    pictures = images.permute(0, 3, 1, 2), targets.permute(0, 3, 1, 2)
    similarity = mean_inside(ssim_map(*pictures, images.dtype).permute(0, 2, 3, 1), inside)
    return (1 - lambda_ssim) * l1 + lambda_ssim * (1 - similarity)


def mean_inside(values: Float[Tensor, "b h w d"], inside: Bool[Tensor, "b h w"] | None) -> Float[Tensor, ""]:
    """Mean over the pixels that are inside; None: over all."""
    if inside is None:
        return values.mean()
    return torch.where(inside[..., None], values, 0.0).sum() / (values.shape[-1] * inside.sum()).clamp_min(1)


def random_points(
    count: int, center: Float[Tensor, "3"], sizes: Float[Tensor, "3"] | float, generator: torch.Generator
) -> Float[Tensor, "n 3"]:
    """Points evenly at random in a ball or ellipsoid.

    Args:
        count: How many.
        center: Its middle, world units.
        sizes: Its half axes, or its radius, world units.
        generator: Random numbers.
    """
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    radii = torch.rand(count, 1, generator=generator) ** (1 / 3)
    return center + sizes * radii * directions


def random_places(count: int, generator: torch.Generator) -> Float[Tensor, "n 3"]:
    """Points evenly at random in the upright cylinder of radius 1 between heights of -1 and 1.

    Args:
        count: How many.
        generator: Random numbers.
    """
    angles, radii, heights = torch.rand(3, count, generator=generator)
    turns, radii = 2 * torch.pi * angles, radii.sqrt()
    return torch.stack([radii * turns.cos(), radii * turns.sin(), 2 * heights - 1], dim=1)


def gaussians_from_points(
    points: Float[Tensor, "n 3"], rgbs: Float[Tensor, "n 3"], sh_degree: int = 0, opacity: float = 0.1
) -> Gaussians:
    """Round Gaussians at points, as large as the gaps between them (Kerbl et al. 2023, section 5.1).

    Args:
        points: Centres, world units.
        rgbs: Colours in [0, 1], the same from all sides.
        sh_degree: Higher degrees are zero.
        opacity: Of all.
    """
    count = len(points)
    places = points.double().numpy()
    gaps, _ = Neighbors(places).nearest(places, min(4, count))
    sizes = (
        torch.from_numpy(gaps[:, 1:]).pow(2).mean(dim=1).sqrt().clamp_min(1e-4) if count > 1 else torch.full((1,), 1e-2)
    )
    return Gaussians(
        means=points.clone(),
        log_scales=sizes.log().float()[:, None].repeat(1, 3),
        raw_quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        logit_opacities=torch.logit(torch.full((count,), float(opacity))),
        sh0=sh0_from_rgbs(rgbs)[:, None],
        shN=torch.zeros(count, (sh_degree + 1) ** 2 - 1, 3),
    )
