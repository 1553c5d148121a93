"""Self-attention across views: what the methods that change a U-Net's attention have in common."""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ...diffusion.features import size_with


class Layer(NamedTuple):
    """A self-attention layer in one network call.

    Attributes:
        module: Its projections.
        num_views: Views in the batch; its rows are all views under one prompt, then all under the next, ...
        size: Height and width of its feature map, cells.
        timestep: Of the call, on the network's scale.
        call: Which network call of the edit this is, from 0.
    """

    module: Any
    num_views: int
    size: tuple[int, int]
    timestep: float
    call: int

    def attend_own(self, hidden: Float[Tensor, "s b n c"]) -> Float[Tensor, "s b n c"]:
        """Each view's attention to itself, as the network has it."""
        rows = hidden.flatten(0, 1)
        return self.attend(rows, rows).view_as(hidden)

    def attend(self, queries: Float[Tensor, "b n c"], keys: Float[Tensor, "b m c"]) -> Float[Tensor, "b n c"]:
        """The layer's own attention and output projection, of some hidden states to others."""
        module = self.module
        q, k, v = (
            project(hidden).unflatten(-1, (module.heads, -1)).transpose(1, 2)
            for project, hidden in ((module.to_q, queries), (module.to_k, keys), (module.to_v, keys))
        )
        mixed = scaled_dot_product_attention(q, k, v, scale=module.scale).transpose(1, 2).flatten(2)
        return module.to_out[0](mixed)


Attend = Callable[[Layer, Tensor], Tensor]
"""A layer and the hidden states of all views, (states b n c) with one state for each prompt -> what it gives."""


@contextmanager
def view_attention(unet: Any, num_views: int, attend: Attend):
    """While entered, every self-attention layer of a U-Net asks ``attend`` what it gives.

    Args:
        unet: A ``UNet2DConditionModel`` or a ``ControlNetModel``, whose batches hold all views under each prompt.
        num_views: How many.
        attend: Says what a layer gives.
    """
    state: dict[str, Any] = {"call": -1}

    def begin(module: Any, args: tuple, kwargs: dict) -> None:
        sample = args[0] if args else kwargs["sample"]
        timestep = args[1] if len(args) > 1 else kwargs["timestep"]
        state.update(size=tuple(sample.shape[-2:]), timestep=float(torch.as_tensor(timestep).reshape(-1)[0]))
        state["call"] += 1

    before = dict(unet.attn_processors)
    within = {
        name: _Processor(num_views, state, attend) if ".attn1." in name else processor
        for name, processor in before.items()
    }
    handle = unet.register_forward_pre_hook(begin, with_kwargs=True)
    unet.set_attn_processor(within)
    try:
        yield
    finally:
        unet.set_attn_processor(before)
        handle.remove()


class _Processor:
    """Stands for diffusers' attention processor of one layer."""

    def __init__(self, num_views: int, state: dict[str, Any], attend: Attend) -> None:
        self.num_views, self.state, self.attend = num_views, state, attend

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **options: Any) -> Tensor:
        size = size_with(hidden_states.shape[1], self.state["size"])
        layer = Layer(attn, self.num_views, size, self.state["timestep"], self.state["call"])
        return self.attend(layer, hidden_states.unflatten(0, (-1, self.num_views))).flatten(0, 1)


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
