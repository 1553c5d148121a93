"""Networks through torch.compile, and replayed as CUDA graphs."""

from collections.abc import Callable
from typing import Any

import torch


def compiled(network: torch.nn.Module, cuda_graphs: bool = False) -> Callable[..., Any]:
    """A network that torch compiles at its first call, and again for other sizes.

    Args:
        network: Called with ``return_dict=False``, so that it answers with tensors.
        cuda_graphs: Whether its kernels are recorded once and replayed by one call, which is quicker where they are
            small. The next replay writes over what the last one gave, so callers get copies.
    """
    if not cuda_graphs:
        return torch.compile(network)
    replayed = torch.compile(network, mode="reduce-overhead")

    def call(*inputs: Any, **options: Any) -> tuple[torch.Tensor, ...]:
        torch.compiler.cudagraph_mark_step_begin()
        return tuple(each.clone() for each in replayed(*inputs, **options))

    return call
