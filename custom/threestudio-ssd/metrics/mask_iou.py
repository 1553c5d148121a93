"""How far two masks overlap: intersection over union."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def mask_iou(masks: Bool[Tensor, "b h w"], references: Bool[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Pixels in both divided by pixels in either, for each pair of masks, in [0, 1]; higher is better.

    Args:
        masks: What is judged.
        references: What it should be.

    Returns:
        One value a pair; 0 where both are empty.
    """
    shared, either = (masks & references).sum((1, 2)), (masks | references).sum((1, 2))
    return shared / either.clamp_min(1).to(torch.float32)
