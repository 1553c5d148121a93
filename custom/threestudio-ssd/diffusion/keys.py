"""The keys that say which diffusion model is loaded, and how it runs."""

from dataclasses import dataclass, field
from typing import Any

import torch

from .backbone import Backbone, load_backbone


@dataclass
class ModelKeys:
    """Keys of a diffusion model."""

    model: str = "data/tiny-ldm"
    """Hub id or folder of the diffusion model in diffusers layout, or a whole .safetensors checkpoint."""
    dtype: str | None = None
    """Precision of the network: fp32, bf16, fp16; none chooses for the device (docs/performance.md)."""
    vae_dtype: str | None = None
    """Precision of the VAE: fp32 or bf16; none chooses for the device."""
    vae: str | None = None
    """Another VAE, by folder or hub id; taesd is the tiny one that fits the model."""
    vae_revision: str | None = None
    """Commit or branch of that VAE's hub repository."""
    lora: list[str] = field(default_factory=list)
    """LoRA files, each path or path:strength."""
    embeddings: list[str] = field(default_factory=list)
    """Textual inversions, .safetensors files: path or path:word; the word may then stand in prompts."""
    quantization: str = "none"
    """The network's weights in fewer bits: none, bnb-8bit, bnb-4bit, torchao-int8, torchao-float8, or a .gguf file."""
    offload: str = "none"
    """What moves to the GPU only when it is needed: none, or model (network and text encoders make room in turn)."""
    revision: str | None = None
    """Commit or branch of a hub model."""
    variant: str | None = None
    """Weight files of this variant, such as fp16: half the download where the repository has them."""
    skip_t5: bool = False
    """Leave out SD 3's third text encoder: 9.5 GB in fp16, and the long prompts that only it reads."""
    offline: bool = False
    """Never ask the hub; use what is on disk."""
    channels_last: bool = False
    """Convolution weights channels-last: faster on recent GPUs, and on CPUs."""
    compile: bool = False
    """Put the U-Net through torch.compile: minutes at the first step, faster after it."""
    cuda_graphs: bool = False
    """The same, replayed as CUDA graphs: less time between small kernels, more memory."""
    vae_tiling: bool = False
    """Encode and decode in tiles: less memory for decoding images beyond a tile (512 px for SD, 1024 for SDXL and
    SD 3); none in a step of an edit, whose gradient keeps the activations of all tiles."""
    vae_checkpointing: bool = False
    """Recompute the encoder's activations in the backward pass: a third less memory, a third more work."""
    freeu: dict = field(default_factory=lambda: {"kind": "none"})
    """FreeU: kind none, paper or diffusers, and b1 b2 s1 s2; the released code runs paper with 1.1 1.1 0.9 0.2."""


def backbone_of(cfg: Any, device: torch.device) -> Backbone:
    """Load the model that ``ModelKeys`` name.

    Raises:
        ConfigError: If it does not exist, cannot be fetched, or an option does not suit it.
        SceneFormatError: If it is broken, or of a kind that is not supported.
    """
    return load_backbone(
        cfg.model, device=device, dtype=cfg.dtype, vae_dtype=cfg.vae_dtype, vae=cfg.vae,
        vae_revision=cfg.vae_revision,
        embeddings=list(cfg.embeddings), quantization=cfg.quantization, offload=cfg.offload, lora=list(cfg.lora),
        revision=cfg.revision, variant=cfg.variant, skip_t5=cfg.skip_t5, offline=cfg.offline, freeu=dict(cfg.freeu),
        channels_last=cfg.channels_last, compile=cfg.compile, cuda_graphs=cfg.cuda_graphs, vae_tiling=cfg.vae_tiling,
        vae_checkpointing=cfg.vae_checkpointing,
    )  # fmt: skip
