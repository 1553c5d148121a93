"""Self-attention across views: what the methods that change a U-Net's attention have in common."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...diffusion.attention import Layer, attention_control

Attend = Callable[[Layer, Tensor], Tensor]
"""A layer and the hidden states of all views, (states b n c) with one state for each prompt -> what it gives."""


def attend_own(layer: Layer, hidden: Float[Tensor, "s b n c"]) -> Float[Tensor, "s b n c"]:
    """Each view's attention to itself, as the network has it."""
    rows = hidden.flatten(0, 1)
    return layer.attend(rows, rows).view_as(hidden)


def view_attention(unet: Any, num_views: int, attend: Attend) -> AbstractContextManager[None]:
    """While entered, every self-attention layer of a U-Net asks ``attend`` what it gives.

    Args:
        unet: A ``UNet2DConditionModel`` or a ``ControlNetModel``, whose batches hold all views under each prompt.
        num_views: How many.
        attend: Says what a layer gives.
    """

    def of_views(layer: Layer, hidden: Tensor, seen: Tensor) -> Tensor:
        return attend(layer, hidden.unflatten(0, (-1, num_views))).flatten(0, 1)

    return attention_control(unet, of_views, has_cross=False)


def by_azimuth(centers: Float[Tensor, "c 3"]) -> Int[Tensor, "c"]:
    """Cameras in the order in which one passes them, walking round: by angle in the plane that they spread in most."""
    offsets = (centers - centers.mean(0)).double()
    _, _, axes = torch.linalg.svd(offsets, full_matrices=False)
    x, y = (offsets @ axes[:2].T).unbind(1)
    return torch.atan2(y, x).argsort()


def parts_of(order: Sequence[int] | Int[Tensor, "c"], count: int) -> list[list[int]]:
    """An order cut into so many runs of (nearly) the same length, none empty."""
    order = torch.as_tensor(order).tolist()
    count = min(count, len(order))
    edges = [round(i * len(order) / count) for i in range(count + 1)]
    return [order[low:high] for low, high in zip(edges, edges[1:], strict=False)]


def pick(parts: Sequence[Sequence[int]], generator: torch.Generator) -> list[int]:
    """One of each part, at random."""
    return [part[int(torch.randint(len(part), (), generator=generator))] for part in parts]
