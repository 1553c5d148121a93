"""Clamping that does not hide colours beyond white from the network, nor lock them there."""

import torch
from torch import Tensor


class _InwardClamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return values.clamp(0, 1)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        is_outward = ((values > 1) & (grad < 0)) | ((values < 0) & (grad > 0))
        return grad.masked_fill(is_outward, 0)


def inward_clamp(values: Tensor) -> Tensor:
    """Clamp to [0, 1]; a gradient that would push a value further out is dropped, one that brings it back is kept.

    The network then sees what a viewer shows, instead of colours brighter than white that encode to latents it likes.
    """
    return _InwardClamp.apply(values)
