"""Attention layers of a U-Net, asked for one by one: what every method that changes them is built on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from .features import size_with


class Layer(NamedTuple):
    """An attention layer in one network call.

    Attributes:
        name: Where it stands in the network: ``up_blocks.0.attentions.1.transformer_blocks.0.attn2``.
        module: Its projections.
        size: Height and width of its feature map, cells.
        timestep: Of the call, on the network's scale.
        call: Which network call this is, from 0.
    """

    name: str
    module: Any
    size: tuple[int, int]
    timestep: float
    call: int

    @property
    def is_cross(self) -> bool:
        """Whether it attends to the prompt's tokens rather than to the map itself."""
        return is_cross(self.name)

    def project(
        self, queries: Float[Tensor, "b n c"], keys: Float[Tensor, "b m d"], values: Float[Tensor, "b m d"]
    ) -> tuple[Float[Tensor, "b heads n e"], Float[Tensor, "b heads m e"], Float[Tensor, "b heads m e"]]:
        """Queries, keys and values of hidden states, by head."""
        module, heads = self.module, self.module.heads
        pairs = ((module.to_q, queries), (module.to_k, keys), (module.to_v, values))
        q, k, v = (project(hidden).unflatten(-1, (heads, -1)).transpose(1, 2) for project, hidden in pairs)
        return q, k, v

    def weights(
        self, q: Float[Tensor, "*b heads n e"], k: Float[Tensor, "*b heads m e"]
    ) -> Float[Tensor, "*b heads n m"]:
        """The attention map: what share of each key a query takes."""
        return (q.float() @ k.float().mT * self.module.scale).softmax(-1)

    def mix(
        self, q: Float[Tensor, "*b heads n e"], k: Float[Tensor, "*b heads m e"], v: Float[Tensor, "*b heads m e"]
    ) -> Float[Tensor, "*b heads n e"]:
        """What the map makes of the values, without the map itself."""
        flat_q, flat_k, flat_v = (each.flatten(0, -4) for each in (q, k, v))  # kernels take four dimensions
        mixed = scaled_dot_product_attention(flat_q, flat_k, flat_v, scale=self.module.scale)
        return mixed.unflatten(0, q.shape[:-3])

    def output(self, mixed: Float[Tensor, "b heads n e"]) -> Float[Tensor, "b n c"]:
        """The output projection."""
        return self.module.to_out[0](mixed.transpose(1, 2).flatten(2))

    def attend(self, queries: Float[Tensor, "b n c"], keys: Float[Tensor, "b m c"]) -> Float[Tensor, "b n c"]:
        """The layer's own attention and output projection, of some hidden states to others."""
        return self.output(self.mix(*self.project(queries, keys, keys)))


Attend = Callable[[Layer, Tensor, Tensor], Tensor]
"""A layer, its hidden states (b n c) and what they attend to (b m d) -> what it gives, (b n c)."""


@contextmanager
def attention_control(unet: Any, attend: Attend, *, has_cross: bool = True) -> Iterator[None]:
    """While entered, every attention layer of a U-Net asks ``attend`` what it gives; afterwards all is as it was.

    Args:
        unet: A ``UNet2DConditionModel`` or a ``ControlNetModel``.
        attend: Says what a layer gives.
        has_cross: Whether the layers that attend to the prompt ask as well.
    """
    state: dict[str, Any] = {"call": -1}

    def begin(module: Any, args: tuple, kwargs: dict) -> None:
        sample = args[0] if args else kwargs["sample"]
        timestep = args[1] if len(args) > 1 else kwargs["timestep"]
        state.update(size=tuple(sample.shape[-2:]), timestep=float(torch.as_tensor(timestep).reshape(-1)[0]))
        state["call"] += 1

    before = dict(unet.attn_processors)
    within = {
        name: _Processor(name.removesuffix(".processor"), state, attend)
        if has_cross or not is_cross(name)
        else processor
        for name, processor in before.items()
    }
    handle = unet.register_forward_pre_hook(begin, with_kwargs=True)
    unet.set_attn_processor(within)
    try:
        yield
    finally:
        unet.set_attn_processor(before)
        handle.remove()


def is_cross(name: str) -> bool:
    """Whether the layer of this name attends to the prompt's tokens."""
    return ".attn2" in name


class _Processor:
    """Stands for diffusers' attention processor of one layer."""

    def __init__(self, name: str, state: dict[str, Any], attend: Attend) -> None:
        self.name, self.state, self.attend = name, state, attend

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *args: Any, **options: Any
    ) -> Tensor:
        size = size_with(hidden_states.shape[1], self.state["size"])
        layer = Layer(self.name, attn, size, self.state["timestep"], self.state["call"])
        seen = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        return self.attend(layer, hidden_states, seen)
