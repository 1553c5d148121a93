"""Clamping that does not hide colours beyond white from the network, nor lock them there."""

import torch
from jaxtyping import Float
from torch import Tensor


class _InwardClamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor, low: Tensor, high: Tensor) -> Tensor:
        ctx.save_for_backward(values, low, high)
        return values.clamp(low, high)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, None, None]:
        (values, low, high), (grad,) = ctx.saved_tensors, grads
        is_outward = ((values > high) & (grad < 0)) | ((values < low) & (grad > 0))
        return grad.masked_fill(is_outward, 0), None, None


def inward_clamp(
    values: Float[Tensor, "*s"], low: Float[Tensor, "*s"] | float = 0.0, high: Float[Tensor, "*s"] | float = 1.0
) -> Float[Tensor, "*s"]:
    """Clamp; a gradient that would push a value further out is dropped, one that brings it back is kept.

    The network then sees what a viewer shows, instead of colours brighter than white that encode to latents it likes.

    Args:
        values: Any.
        low: Least value, one for all or one for each.
        high: Largest value.
    """
    limits = (torch.as_tensor(limit, dtype=values.dtype, device=values.device) for limit in (low, high))
    return _InwardClamp.apply(values, *limits)  # pyright: ignore[reportReturnType]  # torch does not type apply
