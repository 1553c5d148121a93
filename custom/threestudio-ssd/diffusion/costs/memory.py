"""What a step needs in memory: networks run on the meta device while every tensor is followed from birth to death."""

import contextlib
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .architectures import ARCHITECTURES
from .flops import frozen, run_encode, run_predictions


@dataclass(frozen=True)
class StepMemory:
    """Bytes that the networks of one step need."""

    weights: int
    """U-Net and VAE; text encoders are freed before the loop."""
    text_weights: int
    """Text encoders, there only until the prompts are embedded."""
    encode: int
    """Peak of the activations of one encode and its backward pass."""
    predict: int
    """Peak of the activations of all noise predictions in one batch."""

    @property
    def peak(self) -> int:
        """Weights and the larger of the two peaks, or all weights while the prompts are embedded."""
        return self.weights + max(self.encode, self.predict, self.text_weights)


def step_memory(
    model: str,
    image_px: int,
    *,
    num_predictions: int = 4,
    num_views: int = 1,
    vae: Literal["own", "taesd"] = "own",
    dtype: torch.dtype = torch.float16,
    vae_dtype: torch.dtype = torch.bfloat16,
    vae_checkpointing: bool = False,
    vae_tiling: bool = False,
) -> StepMemory:
    """Estimate the memory of one optimisation step; arguments as in `step_cost` and `load_backbone`.

    Every tensor that the networks make is followed from birth to death, on the assumption that attention keeps no
    matrix of all pairs (flash or memory-efficient kernels). Not included: the CUDA context, the allocator's spare
    room, the kernels' workspaces, the splat and its renderer.
    """
    architecture = ARCHITECTURES[model]
    with torch.device("meta"):
        network = frozen(architecture.make_network().to(dtype))
        autoencoder = frozen(architecture.make_vae(vae).to(vae_dtype))
        text_bytes = sum(_num_bytes(text.to(dtype)) for text in architecture.make_texts())
    if vae_checkpointing:
        autoencoder.enable_gradient_checkpointing()
    if vae_tiling:
        autoencoder.enable_tiling()
    with _pairless_attention():
        with PeakMemory() as encoding:
            run_encode(autoencoder, num_views, image_px, vae_dtype)
        with PeakMemory() as predicting:
            run_predictions(architecture, network, num_predictions * num_views, image_px, dtype)
    return StepMemory(_num_bytes(network) + _num_bytes(autoencoder), text_bytes, encoding.peak, predicting.peak)


class PeakMemory(TorchDispatchMode):
    """Follows the bytes of all tensors made while it is entered, and keeps the highest sum."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.current = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run one operation and count what it allocates; a view of its inputs allocates nothing."""
        kwargs = kwargs or {}
        self._seen.update(leaf.untyped_storage() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        result = func(*args, **kwargs)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        self._seen.add(storage)
        self.current += storage.nbytes()
        self.peak = max(self.peak, self.current)
        weakref.finalize(storage, self._forget, storage.nbytes())

    def _forget(self, num_bytes: int) -> None:
        self.current -= num_bytes


class _AttentionWithoutPairs(torch.autograd.Function):
    """Stands for a fused attention kernel: keeps its inputs and output, allocates no matrix of all pairs."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, output)
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


@contextlib.contextmanager
def _pairless_attention() -> Iterator[None]:
    functional = torch.nn.functional
    original = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = lambda query, key, value, **kwargs: _AttentionWithoutPairs.apply(
        query, key, value
    )
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = original


def _num_bytes(network: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in network.parameters())
