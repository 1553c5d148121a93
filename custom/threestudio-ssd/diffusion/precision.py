"""Which floating-point type each network runs in."""

from collections.abc import Mapping
from typing import Any

import torch

from ..errors import ConfigError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
DTYPES |= {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES.values()}

LARGE = 100_000_000
"""Parameters from which a network on a CPU gains from bfloat16; below, what casts cost is more than they save."""
BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""What torch calls them on x86 and on Arm; without them bfloat16 is slower than float32."""


def choose_dtype(
    dtype: torch.dtype | str | None, device: torch.device, half: torch.dtype = torch.float16
) -> torch.dtype:
    """The precision of the networks: as asked, else float32 on a CPU and half precision on a GPU.

    U-Nets take float16, because scores are differences of predictions and it keeps three bits more than bfloat16.

    Args:
        dtype: What was asked for.
        device: Where the network runs.
        half: The half precision that suits the network; bfloat16 where the GPU lacks it is float16.

    Raises:
        ConfigError: If `dtype` is not fp32, fp16 or bf16.
    """
    if dtype is not None:
        return _named_dtype(dtype, "dtype", DTYPES)
    if device.type == "mps":  # Metal has bfloat16 since macOS 14, which torch needs
        return half
    if device.type != "cuda":
        return torch.float32
    return half if torch.cuda.is_bf16_supported() else torch.float16


def choose_vae_dtype(dtype: torch.dtype | str | None, device: torch.device) -> torch.dtype:
    """The precision of the VAE: as asked, else bfloat16 on a GPU that has it and float32 elsewhere.

    Raises:
        ConfigError: If `dtype` is not fp32 or bf16: several VAEs overflow in float16.
    """
    if dtype is not None:
        safe = {name: value for name, value in DTYPES.items() if value != torch.float16}
        return _named_dtype(dtype, "vae_dtype", safe)
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float32


def cpu_autocast(dtype: torch.dtype | str | None, device: torch.device, network: Any) -> torch.dtype | None:
    """What products are computed in where weights stay float32: bfloat16 for a large network, if the CPU knows it.

    Args:
        dtype: The precision that was asked for; any turns this off.
        device: Where the network runs.
        network: The denoiser.
    """
    is_large = sum(weights.numel() for weights in network.parameters()) >= LARGE
    return torch.bfloat16 if dtype is None and device.type == "cpu" and cpu_has_bf16() and is_large else None


def cpu_has_bf16() -> bool:
    """Whether this processor has instructions for products in bfloat16."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in BF16_INSTRUCTIONS)


def place(network: Any, device: torch.device, dtype: torch.dtype | None, is_channels_last: bool = False) -> Any:
    """`network`, frozen, in evaluation mode, on `device` and in `dtype`; None leaves each weight its type."""
    network = network.eval().requires_grad_(False).to(device)
    is_whole = all(tensor.dtype != dtype for tensor in network.parameters())  # T5 keeps some layers in float32
    if dtype is not None and is_whole:
        network = network.to(dtype)
    return network.to(memory_format=torch.channels_last) if is_channels_last else network


def _named_dtype(dtype: torch.dtype | str, key: str, names: Mapping[str, torch.dtype]) -> torch.dtype:
    chosen = names.get(dtype) if isinstance(dtype, str) else dtype
    if chosen is None or chosen not in names.values():
        expected, fix = " or ".join(name for name in names if len(name) == 4), f"set {key}=fp32, or leave it out"
        raise ConfigError(what=f"{key} is {dtype}", expected=expected, fix=fix)
    return chosen
