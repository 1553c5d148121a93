"""What a step costs: operations and memory of one encode with gradient and some predictions, counted without weights.

Everything runs on torch's meta device, where tensors have shapes but no contents: the full networks are built and run
in seconds. One multiply-add counts as two operations; element-wise work is not counted.
"""

import contextlib
import functools
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from .architectures import ARCHITECTURES, Architecture


@dataclass(frozen=True)
class StepCost:
    """Operations of one step's networks, in units of 1e12."""

    encode: float
    """One VAE encode and its gradient with respect to the image."""
    predict: float
    """All noise predictions, without gradient."""

    @property
    def total(self) -> float:
        """Both together."""
        return self.encode + self.predict


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


def step_cost(
    model: str, image_px: int, *, num_predictions: int = 4, num_views: int = 1, vae: Literal["own", "taesd"] = "own"
) -> StepCost:
    """Count the operations of one optimisation step.

    Args:
        model: A key of ARCHITECTURES.
        image_px: Side of the square image, a multiple of 8.
        num_predictions: Noise predictions per view.
        num_views: Images per step.
        vae: The model's own VAE, or TAESD.
    """
    return StepCost(
        num_views * encode_flops(model, image_px, vae) / 1e12,
        num_views * num_predictions * predict_flops(model, image_px) / 1e12,
    )


@functools.cache
def encode_flops(model: str, image_px: int, vae: Literal["own", "taesd"] = "own") -> int:
    """Operations of encoding one image and of the gradient with respect to it."""
    with torch.device("meta"):
        autoencoder = ARCHITECTURES[model].make_vae(vae)
    with FlopCounterMode(display=False) as counter:
        _encode_with_gradient(_frozen(autoencoder), 1, image_px, torch.float32)
    return counter.get_total_flops()


@functools.cache
def predict_flops(model: str, image_px: int) -> int:
    """Operations of one noise prediction."""
    with torch.device("meta"):
        network = ARCHITECTURES[model].make_network()
    with FlopCounterMode(display=False) as counter:
        _predict(ARCHITECTURES[model], _frozen(network), 1, image_px, torch.float32)
    return counter.get_total_flops()


def step_memory(
    model: str,
    image_px: int,
    *,
    num_predictions: int = 4,
    num_views: int = 1,
    vae: Literal["own", "taesd"] = "own",
    dtype: torch.dtype = torch.float16,
    vae_dtype: torch.dtype = torch.bfloat16,
) -> StepMemory:
    """Estimate the memory of one optimisation step; arguments as in `step_cost`.

    Every tensor that the networks make is followed from birth to death, on the assumption that attention keeps no
    matrix of all pairs (flash or memory-efficient kernels). Not included: the CUDA context, the allocator's spare
    room, the kernels' workspaces, the splat and its renderer.
    """
    architecture = ARCHITECTURES[model]
    with torch.device("meta"):
        network = _frozen(architecture.make_network().to(dtype))
        autoencoder = _frozen(architecture.make_vae(vae).to(vae_dtype))
        text_bytes = sum(_num_bytes(text.to(dtype)) for text in architecture.make_texts())
    with _pairless_attention():
        with PeakMemory() as encoding:
            _encode_with_gradient(autoencoder, num_views, image_px, vae_dtype)
        with PeakMemory() as predicting:
            _predict(architecture, network, num_predictions * num_views, image_px, dtype)
    return StepMemory(_num_bytes(network) + _num_bytes(autoencoder), text_bytes, encoding.peak, predicting.peak)


def _encode_with_gradient(vae: nn.Module, num_views: int, image_px: int, dtype: torch.dtype) -> None:
    images = torch.empty(num_views, 3, image_px, image_px, dtype=dtype, device="meta", requires_grad=True)
    output = vae.encode(images * 2 - 1)
    latents = output.latents if hasattr(output, "latents") else output.latent_dist.mean
    latents.backward(torch.empty_like(latents))


@torch.no_grad()
def _predict(architecture: Architecture, network: nn.Module, rows: int, image_px: int, dtype: torch.dtype) -> None:
    cells, config = image_px // 8, network.config

    def rows_of(*shape: int) -> Tensor:
        return torch.empty(rows, *shape, dtype=dtype, device="meta")

    latents, times = rows_of(config.in_channels, cells, cells), rows_of()
    if architecture.kind == "sd3":
        hidden = rows_of(architecture.num_tokens, config.joint_attention_dim)
        network(latents, hidden, rows_of(config.pooled_projection_dim), times)
        return
    pooled = {"text_embeds": rows_of(1280), "time_ids": rows_of(6)} if architecture.kind == "sdxl" else None
    network(latents, times, rows_of(architecture.num_tokens, config.cross_attention_dim), added_cond_kwargs=pooled)


class PeakMemory(TorchDispatchMode):
    """Follows the bytes of all tensors made while it is entered, and keeps the highest sum."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.current = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run one operation and count what it allocates."""
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._follow(tensor.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
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


def _frozen(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False)


def _num_bytes(network: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in network.parameters())
