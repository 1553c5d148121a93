"""How a backbone runs: device, precisions and switches, the same for a model from disk and one in memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .families import Family
from .freeu import FreeU
from .precision import choose_dtype, choose_vae_dtype


@dataclass(frozen=True)
class BackboneOptions:
    """Keyword arguments of `Backbone` and `load_backbone`.

    Raises:
        ConfigError: If a precision is unknown, or does not suit the VAE.
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
    vae_tiling: bool = False
    """Whether large images are encoded and decoded in tiles: less memory without gradient, more with, faint seams."""
    vae_checkpointing: bool = False
    """Whether the encoder recomputes activations in the backward pass: a third less memory, a third more work."""

    def __post_init__(self) -> None:
        """A misspelt precision fails before a download."""
        choose_dtype(self.dtype, torch.device(self.device))
        choose_vae_dtype(self.vae_dtype, torch.device(self.device))

    def network_dtype(self, family: Family) -> torch.dtype:
        """The precision of a family's network."""
        return choose_dtype(self.dtype, torch.device(self.device), family.half_dtype)

    @property
    def autoencoder_dtype(self) -> torch.dtype:
        """The precision of the VAE."""
        return choose_vae_dtype(self.vae_dtype, torch.device(self.device))
