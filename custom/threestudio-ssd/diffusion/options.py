"""How a backbone runs: device, precisions and switches, the same for a model from disk and one in memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import ConfigError
from .families import Family
from .freeu import FreeU
from .precision import choose_dtype, choose_vae_dtype
from .quantization import check_quantization

OFFLOADS = ("none", "model")


@dataclass(frozen=True)
class BackboneOptions:
    """Keyword arguments of `Backbone` and `load_backbone`.

    Raises:
        ConfigError: If a precision is unknown, or does not suit the VAE; if there is no such quantisation or offload.
        MissingPackageError: If the quantisation's package is not installed.
    """

    device: torch.device | str = "cpu"
    """Where the networks run."""
    dtype: torch.dtype | str | None = None
    """Precision of U-Net and text encoders: "fp32", "fp16", "bf16" or a torch dtype; None chooses for the device."""
    vae_dtype: torch.dtype | str | None = None
    """The same for the VAE; None is float32, or bfloat16 on a GPU that has it; float16 overflows in several."""
    freeu: FreeU | Mapping[str, Any] | None = None
    """FreeU settings, keys kind b1 b2 s1 s2; off by default."""
    channels_last: bool = False
    """Whether convolution weights are laid out channels-last (faster on recent GPUs)."""
    compile: bool = False
    """Whether the network goes through torch.compile (minutes at the first step)."""
    cuda_graphs: bool = False
    """The same, with its kernels replayed as CUDA graphs: less time between small kernels, more memory."""
    vae_tiling: bool = False
    """Whether large images are encoded and decoded in tiles: less memory without gradient, more with, faint seams."""
    vae_checkpointing: bool = False
    """Whether the encoder recomputes activations in the backward pass: a third less memory, a third more work."""

    quantization: str = "none"
    """How the network's weights are stored: a key of ``QUANTIZATIONS``, or a .gguf file of them."""
    offload: str = "none"
    """What moves to the device only when it is needed: none, or model (network, VAE and text encoders in turn)."""

    def __post_init__(self) -> None:
        """What cannot be had fails before a download."""
        check_quantization(self.quantization, "quantization")
        if self.offload not in OFFLOADS:
            raise ConfigError(
                what=f"offload is {self.offload!r}", expected=" or ".join(OFFLOADS), fix="set offload=none"
            )
        if self.offload != "none" and torch.device(self.device).type == "cpu":
            what, fix = f"offload is {self.offload}, and there is no GPU to offload from", "set offload=none"
            raise ConfigError(what=what, expected="none on a CPU", fix=fix)
        if self.cuda_graphs and torch.device(self.device).type != "cuda":
            what, fix = "cuda_graphs is true, and there is no CUDA GPU to replay them", "set cuda_graphs=false"
            raise ConfigError(what=what, expected="false here", fix=fix)
        choose_dtype(self.dtype, torch.device(self.device))
        choose_vae_dtype(self.vae_dtype, torch.device(self.device))

    def network_dtype(self, family: Family) -> torch.dtype:
        """The precision of a family's network."""
        return choose_dtype(self.dtype, torch.device(self.device), family.half_dtype)

    @property
    def autoencoder_dtype(self) -> torch.dtype:
        """The precision of the VAE."""
        return choose_vae_dtype(self.vae_dtype, torch.device(self.device))
