"""Pictures in colours the toy world never shows."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def jitter_colors(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Colours the toy world never shows: random colour matrices, blended by smooth masks, low-frequency noise.

    Args:
        images: (b 3 h w) in [0, 1].
        rng: Random numbers.

    Returns:
        Images of the same shape and range.
    """
    b, _, h, w = images.shape
    matrices = torch.from_numpy(np.eye(3) + 0.55 * rng.normal(size=(b, 3, 3))).float()
    offsets = torch.from_numpy(0.3 * rng.normal(size=(b, 3, 1, 1))).float()
    recolored = torch.einsum("bij,bjhw->bihw", matrices, images) + offsets
    coarse = torch.from_numpy(rng.normal(size=(b, 1, 4, 4))).float()
    mask = torch.sigmoid(4 * F.interpolate(coarse, (h, w), mode="bicubic"))
    noise = torch.from_numpy(rng.normal(size=(b, 3, 8, 8)) * rng.uniform(0, 0.12, (b, 1, 1, 1))).float()
    mixed = mask * recolored + (1 - mask) * images[torch.from_numpy(rng.permutation(b))]
    return (mixed + F.interpolate(noise, (h, w), mode="bicubic")).clamp(0, 1)
