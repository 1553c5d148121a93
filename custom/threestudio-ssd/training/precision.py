"""What a U-Net trains fastest in on this processor."""

from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor

from ..diffusion.precision import cpu_has_bf16


def mixed_precision() -> torch.autocast:
    """bfloat16 where the processor multiplies in it, else float32: without instructions it takes 15 times as long."""
    return torch.autocast("cpu", torch.bfloat16, enabled=cpu_has_bf16())


def quick_to_train(unet: Any) -> Any:
    """The same ``UNet2DConditionModel``, set up as it trains fastest.

    The gradient of PyTorch's fused attention is slow in bfloat16, and so are channels that lie last: a step of 32 takes
    0.35 s with both and 0.24 s with neither. In float32 channels that lie last are quicker, by a fifth.
    """
    unet.set_attn_processor(AttnProcessor())
    return unet if cpu_has_bf16() else unet.to(memory_format=torch.channels_last)
