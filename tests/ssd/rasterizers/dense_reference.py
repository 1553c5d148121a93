"""An independent float64 renderer: every Gaussian at every pixel, no tiles, gradients by torch autograd.

Written from the papers (Kerbl et al. 2023; Zwicker et al. 2001), for small scenes only.
"""

import math

import torch
from torch import Tensor


def _rotations(quats: Tensor) -> Tensor:
    w, x, y, z = (quats / quats.norm(dim=-1, keepdim=True)).unbind(-1)
    zero = torch.zeros_like(w)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    return torch.eye(3, dtype=quats.dtype) + 2 * w[..., None, None] * cross + 2 * cross @ cross  # Rodrigues


def _legendre_basis(degree: int, dirs: Tensor) -> Tensor:
    """Real spherical harmonics from associated Legendre polynomials, with the Condon-Shortley phase kept."""
    x, y, z = dirs.unbind(-1)
    values = []
    for l in range(degree + 1):
        for m in range(-l, l + 1):
            k = abs(m)
            # P_l^k / sin^k(theta) as a polynomial in z: the k-th derivative of Legendre's polynomial, with (-1)^k
            coefficients = torch.zeros(l + 1, dtype=dirs.dtype)
            for j in range(l // 2 + 1):
                term = (-1) ** j * math.comb(l, j) * math.comb(2 * l - 2 * j, l) / 2**l
                power = l - 2 * j
                if power >= k:
                    coefficients[power - k] += term * math.perm(power, k)
            polynomial = sum(c * z**p for p, c in enumerate(coefficients))
            azimuth = torch.complex(x, y) ** k  # sin^k(theta) e^(i k phi)
            norm = math.sqrt((2 * l + 1) / (4 * math.pi) * math.factorial(l - k) / math.factorial(l + k))
            part = azimuth.imag if m < 0 else azimuth.real
            values.append((-1) ** k * norm * (math.sqrt(2) if k else 1.0) * polynomial * part)
    return torch.stack(values, -1)


def _project(points: Tensor, K: Tensor, width: int, height: int, model: str) -> tuple[Tensor, Tensor]:
    """Image positions (n 2) and Jacobians (n 2 3)."""
    if len(points) == 0:
        return points[:, :2], points.new_zeros(0, 2, 3)
    focal, center = torch.stack([K[0, 0], K[1, 1]]), K[:2, 2]
    size = torch.tensor([width, height], dtype=points.dtype)

    def image(p: Tensor) -> Tensor:
        if model == "pinhole":
            return focal * p[:2] / p[2] + center
        if model == "ortho":
            return focal * p[:2] + center
        r = p[:2].norm()
        return focal * p[:2] * torch.atan2(r, p[2]) / r + center

    means2d = torch.vmap(image)(points)
    at = points
    if model == "pinhole":  # the Jacobian is taken no further out than 1.3 half images
        border = 0.3 * 0.5 * size / focal
        slopes = points[:, :2] / points[:, 2:]
        slopes = torch.maximum(torch.minimum(slopes, (size - center) / focal + border), -center / focal - border)
        at = torch.cat([slopes * points[:, 2:], points[:, 2:]], -1)
    return means2d, torch.vmap(torch.func.jacrev(image))(at)


def render_dense(
    means, quats, scales, opacities, colors, viewmat, K, width, height, *, near_plane=0.01, far_plane=1e10, eps2d=0.3,
    sh_degree=None, background=None, covars=None, antialiased=False, camera_model="pinhole", depth_channel=False,
):  # fmt: skip
    """One camera, all tensors float64. Returns image (h w d), alpha (h w 1), and the image means (n 2)."""
    rotation, translation = viewmat[:3, :3], viewmat[:3, 3]
    points = means @ rotation.T + translation
    drawn = (points[:, 2] >= near_plane) & (points[:, 2] <= far_plane)
    order = torch.argsort(points[:, 2].detach(), stable=True)
    order = order[drawn[order]]
    points = points[order]
    if covars is None:
        half = _rotations(quats[order]) * scales[order, None, :]
        covars3d = half @ half.mT
    else:
        upper = covars[order].triu()
        covars3d = upper + covars[order].triu(1).mT
    means2d, jacobians = _project(points, K, width, height, camera_model)
    axes = jacobians @ rotation
    sharp = axes @ covars3d @ axes.mT
    blurred = sharp + eps2d * torch.eye(2, dtype=means.dtype)
    alphas_max = opacities[order]
    if antialiased:
        alphas_max = alphas_max * (torch.linalg.det(sharp).clamp(min=0) / torch.linalg.det(blurred)).sqrt()
    if sh_degree is not None:
        per_gaussian = colors[order]
        center = torch.inverse(viewmat)[:3, 3]  # of the whole matrix, as gsplat: the last row has a gradient as well
        dirs = torch.nn.functional.normalize(means[order] - center, dim=-1)
        basis = _legendre_basis(sh_degree, dirs)
        rgbs = torch.einsum("nk,nkd->nd", basis, per_gaussian[:, : basis.shape[-1]]) + 0.5
        rgbs = rgbs.clamp(min=0)
    else:
        rgbs = colors[order]
    if depth_channel:
        rgbs = torch.cat([rgbs, points[:, 2:]], -1)
        background = None if background is None else torch.cat([background, torch.zeros_like(background[:1])])
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([x, y], -1).reshape(-1, 2).to(means.dtype) + 0.5
    transmittance = torch.ones(len(pixels), dtype=means.dtype)
    is_live = torch.ones(len(pixels), dtype=torch.bool)
    image = torch.zeros(len(pixels), rgbs.shape[-1], dtype=means.dtype)
    whitened = torch.linalg.inv(torch.linalg.cholesky(blurred)) if len(order) else blurred
    for i in range(len(order)):
        offset = (pixels - means2d[i]) @ whitened[i].T
        alpha = (alphas_max[i] * torch.exp(-0.5 * offset.square().sum(-1))).clamp(max=0.999)
        after = transmittance * (1 - alpha)
        is_seen = alpha.detach() >= 1 / 255
        is_live = is_live & ~(is_seen & (after.detach() <= 1e-4))
        weight = torch.where(is_live & is_seen, transmittance * alpha, 0.0)
        image = image + weight[:, None] * rgbs[i]
        transmittance = torch.where(is_live & is_seen, after, transmittance)
    if background is not None:
        image = image + transmittance[:, None] * background
    image = image.reshape(height, width, -1)
    return image, (1 - transmittance).reshape(height, width, 1), means2d
