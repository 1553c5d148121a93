"""What a step costs in operations: one encode with gradient and some noise predictions, counted without weights.

Everything runs on torch's meta device, where tensors have shapes but no contents: the full networks are built and run
in seconds. One multiply-add counts as two operations; element-wise work is not counted.
"""

import functools
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..prompts import PromptEmbeds
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


def step_cost(
    model: str,
    image_px: int,
    *,
    num_predictions: int = 4,
    num_views: int = 1,
    vae: Literal["own", "taesd"] = "own",
    vae_tiling: bool = False,
) -> StepCost:
    """Count the operations of one optimisation step.

    Args:
        model: A key of ARCHITECTURES.
        image_px: Side of the square image, a multiple of 8.
        num_predictions: Noise predictions per view.
        num_views: Images per step.
        vae: The model's own VAE, or TAESD.
        vae_tiling: Whether it encodes in tiles, which overlap.
    """
    return StepCost(
        num_views * encode_flops(model, image_px, vae, vae_tiling) / 1e12,
        num_views * num_predictions * predict_flops(model, image_px) / 1e12,
    )


@functools.cache
def encode_flops(model: str, image_px: int, vae: Literal["own", "taesd"] = "own", vae_tiling: bool = False) -> int:
    """Operations of encoding one image and of the gradient with respect to it."""
    with torch.device("meta"):
        autoencoder = ARCHITECTURES[model].make_vae(vae)
    if vae_tiling:
        autoencoder.enable_tiling()
    with FlopCounterMode(display=False) as counter:
        run_encode(frozen(autoencoder), 1, image_px, torch.float32)
    return counter.get_total_flops()


@functools.cache
def predict_flops(model: str, image_px: int) -> int:
    """Operations of one noise prediction."""
    with torch.device("meta"):
        network = ARCHITECTURES[model].make_network()
    with FlopCounterMode(display=False) as counter:
        run_predictions(ARCHITECTURES[model], frozen(network), 1, image_px, torch.float32)
    return counter.get_total_flops()


def run_encode(vae: Any, num_views: int, image_px: int, dtype: torch.dtype) -> None:
    """Encode images of no content on the meta device, and go back to the images."""
    images = torch.empty(num_views, 3, image_px, image_px, dtype=dtype, device="meta", requires_grad=True)
    output = vae.encode(images * 2 - 1)
    latents = output.latents if hasattr(output, "latents") else output.latent_dist.mean
    latents.backward(torch.empty_like(latents))


@torch.no_grad()
def run_predictions(architecture: Architecture, network: Any, rows: int, image_px: int, dtype: torch.dtype) -> None:
    """Predict the noise of latents of no content on the meta device, by the family's own call."""
    family, cells = architecture.family, image_px // 8
    hidden, pooled = family.prompt_widths(network)

    def rows_of(*shape: int) -> Tensor:
        return torch.empty(rows, *shape, dtype=dtype, device="meta")

    prompts = PromptEmbeds(rows_of(architecture.num_tokens, hidden), None if pooled is None else rows_of(pooled))
    latents = rows_of(family.num_channels(network)[0], cells, cells)
    family.predict(network, network.config, latents, rows_of(), prompts, downscale=8)


def frozen(network: nn.Module) -> Any:
    """`network` as it is used: in evaluation mode, without gradients of weights."""
    return network.eval().requires_grad_(False)
