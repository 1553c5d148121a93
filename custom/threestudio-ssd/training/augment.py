"""What is done to training images: damage that renders of edits and decoded images suffer, and foreign colours."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate


def uniform(generator: torch.Generator, low: float, high: float, count: int) -> Float[Tensor, "b 1 1 1"]:
    """One number per image."""
    return torch.rand(count, 1, 1, 1, generator=generator) * (high - low) + low


def blur(images: Float[Tensor, "b 3 h w"], sigma: float) -> Float[Tensor, "b 3 h w"]:
    """Gaussian blur, edges repeated."""
    offsets = torch.arange(-3, 4, dtype=images.dtype)
    kernel = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, 7)
    padded = nn.functional.pad(images, (3, 3, 3, 3), mode="replicate")
    rows = nn.functional.conv2d(padded, kernel, groups=3)
    return nn.functional.conv2d(rows, kernel.mT, groups=3)


def quantise_blocks(images: Float[Tensor, "b 3 h w"], strength: float) -> Float[Tensor, "b 3 h w"]:
    """What JPEG does: round the cosine coefficients of 8x8 blocks, fine ones more coarsely."""
    place = torch.arange(8, dtype=images.dtype)
    basis = torch.cos((2 * place[None] + 1) * place[:, None] * torch.pi / 16) / 2
    basis[0] /= 2**0.5
    steps = strength * (1 + place[:, None] + place[None])
    b, _, height, width = images.shape
    blocks = images.reshape(b, 3, height // 8, 8, width // 8, 8).transpose(3, 4)
    coefficients = ((basis @ blocks @ basis.T) / steps).round() * steps
    return (basis.T @ coefficients @ basis).transpose(3, 4).reshape(images.shape)


def mirror(images: Float[Tensor, "b c h w"], generator: torch.Generator) -> Float[Tensor, "b c h w"]:
    """Mirror every second image or so, left to right."""
    return torch.where(uniform(generator, 0, 1, len(images)) < 0.5, images.flip(-1), images)


def damage(images: Float[Tensor, "b 3 h w"], generator: torch.Generator) -> Float[Tensor, "b 3 h w"]:
    """Damage images as renders of edits are damaged; hue is left alone, for it is a label.

    A quarter of the batch each: as it is, blurred, shrunk and enlarged, quantised in blocks. Then brightness,
    contrast and noise change a little everywhere.
    """
    b = len(images)
    quarter = b // 4
    sigma, strength = (uniform(generator, low, high, 1).item() for low, high in ((0.4, 1.1), (0.01, 0.05)))
    size = int(torch.randint(36, 60, (), generator=generator))
    small = interpolate(images[2 * quarter : 3 * quarter], (size, size), mode="bilinear", antialias=True)
    parts = [
        images[:quarter],
        blur(images[quarter : 2 * quarter], sigma),
        interpolate(small, images.shape[-2:], mode="bicubic"),
        quantise_blocks(images[3 * quarter :], strength),
    ]
    images = torch.cat(parts)
    images = (images - 0.5) * uniform(generator, 0.92, 1.08, b) + 0.5 + uniform(generator, -0.04, 0.04, b)
    noise = torch.randn(images.shape, generator=generator) * uniform(generator, 0, 0.05, b)
    return (images + noise).clamp(0, 1)


def shift(images: Float[Tensor, "b c h w"], generator: torch.Generator, most: int = 4) -> Float[Tensor, "b c h w"]:
    """Move the whole batch by up to ``most`` pixels, edges repeated."""
    height, width = images.shape[-2:]
    top, left = torch.randint(0, 2 * most + 1, (2,), generator=generator).tolist()
    padded = nn.functional.pad(images, (most,) * 4, mode="replicate")
    return padded[..., top : top + height, left : left + width]


def jitter_colors(images: Float[Tensor, "b 3 h w"], rng: np.random.Generator) -> Float[Tensor, "b 3 h w"]:
    """Colours the toy world never shows: random colour matrices, blended by smooth masks, low-frequency noise.

    Args:
        images: In [0, 1].
        rng: Random numbers.

    Returns:
        Images in [0, 1].
    """
    b, _, h, w = images.shape
    matrices = torch.from_numpy(np.eye(3) + 0.55 * rng.normal(size=(b, 3, 3))).float()
    offsets = torch.from_numpy(0.3 * rng.normal(size=(b, 3, 1, 1))).float()
    recolored = torch.einsum("bij,bjhw->bihw", matrices, images) + offsets
    coarse = torch.from_numpy(rng.normal(size=(b, 1, 4, 4))).float()
    mask = torch.sigmoid(4 * interpolate(coarse, (h, w), mode="bicubic"))
    noise = torch.from_numpy(rng.normal(size=(b, 3, 8, 8)) * rng.uniform(0, 0.12, (b, 1, 1, 1))).float()
    mixed = mask * recolored + (1 - mask) * images[torch.from_numpy(rng.permutation(b))]
    return (mixed + interpolate(noise, (h, w), mode="bicubic")).clamp(0, 1)
