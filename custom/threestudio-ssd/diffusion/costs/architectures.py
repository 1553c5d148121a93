"""The published architectures by their configs (facts, no weights), for counting work and memory without a download."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from ..families import SD, SD3, SDXL, Family

SD15_UNET: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
}
SD21_UNET = SD15_UNET | {
    "sample_size": 96,
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
SDXL_UNET = SD21_UNET | {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": (5, 10, 20),
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SD3_TRANSFORMER: dict[str, Any] = {
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 24,
    "attention_head_dim": 64,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1536,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
}
SD35_TRANSFORMER = SD3_TRANSFORMER | {
    "pos_embed_max_size": 384,
    "dual_attention_layers": tuple(range(13)),
    "qk_norm": "rms_norm",
}
SD_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}
SDXL_VAE = SD_VAE | {"sample_size": 1024, "scaling_factor": 0.13025}
SD3_VAE = SDXL_VAE | {
    "latent_channels": 16,
    "scaling_factor": 1.5305,
    "shift_factor": 0.0609,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}

SCHEDULERS: dict[str, dict[str, Any]] = {
    "epsilon": {"_class_name": "DDIMScheduler", "prediction_type": "epsilon", "steps_offset": 1},
    "v_prediction": {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction", "steps_offset": 1},
    "flow": {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0, "num_train_timesteps": 1000},
    "turbo": {"_class_name": "EulerDiscreteScheduler", "prediction_type": "epsilon", "timestep_spacing": "trailing"},
    "lcm": {"_class_name": "LCMScheduler", "prediction_type": "epsilon", "original_inference_steps": 50},
}
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}


def clip_config(width: int, num_layers: int, num_heads: int, projection: int, **others: Any) -> dict[str, Any]:
    """Config of a CLIP text network, whose inner layers are four times as wide as its tokens."""
    layers = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": num_layers}
    return layers | {"num_attention_heads": num_heads, "projection_dim": projection} | others


CLIP_L = clip_config(768, 12, 12, 768)
CLIP_H = clip_config(1024, 23, 16, 512, hidden_act="gelu")
CLIP_BIG_G = clip_config(1280, 32, 20, 1280, hidden_act="gelu")


def scheduler_config(kind: str) -> dict[str, Any]:
    """Contents of ``scheduler_config.json`` for a kind of noise, a key of ``SCHEDULERS``."""
    return SCHEDULERS[kind] | ({} if kind == "flow" else BETAS)


@dataclass(frozen=True)
class Architecture:
    """One published model: what its networks are built from.

    Args:
        family: Which kind of model it is.
        network: Arguments of the U-Net or transformer.
        vae: Arguments of the AutoencoderKL.
        texts: Arguments of the CLIP text encoders.
        image_size: The side in pixels of its training images.
        num_tokens: Tokens of one embedded prompt.
        scheduler: What kind of noise it was trained on, a key of ``SCHEDULERS``.
    """

    family: Family
    network: dict[str, Any]
    vae: dict[str, Any]
    texts: tuple[dict[str, Any], ...]
    image_size: int
    num_tokens: int = 77
    scheduler: str = "epsilon"

    @property
    def scheduler_config(self) -> dict[str, Any]:
        """Contents of ``scheduler_config.json``."""
        return scheduler_config(self.scheduler)

    def make_network(self) -> Any:
        """The U-Net or transformer, on the current default device."""
        return self.family.make_network(self.network)

    def make_vae(self, name: str = "own") -> Any:
        """The model's own VAE, or the tiny one ("taesd")."""
        from diffusers import AutoencoderKL, AutoencoderTiny

        if name == "taesd":
            return AutoencoderTiny(latent_channels=self.vae["latent_channels"])
        return AutoencoderKL(**self.vae)

    def make_texts(self) -> list[nn.Module]:
        """The CLIP text encoders (an SD 3's T5 left out)."""
        return self.family.make_clips(self.texts)


ARCHITECTURES: dict[str, Architecture] = {
    "sd15": Architecture(SD, SD15_UNET, SD_VAE, (CLIP_L,), 512),
    "sd21-base": Architecture(SD, SD21_UNET | {"sample_size": 64}, SD_VAE, (CLIP_H,), 512),
    "sd21": Architecture(SD, SD21_UNET, SD_VAE, (CLIP_H,), 768, scheduler="v_prediction"),
    "ip2p": Architecture(SD, SD15_UNET | {"in_channels": 8}, SD_VAE, (CLIP_L,), 512),
    "sdxl": Architecture(SDXL, SDXL_UNET, SDXL_VAE, (CLIP_L, CLIP_BIG_G), 1024),
    "sd-turbo": Architecture(SD, SD21_UNET | {"sample_size": 64}, SD_VAE, (CLIP_H,), 512, scheduler="turbo"),
    "sdxl-turbo": Architecture(
        SDXL, SDXL_UNET | {"sample_size": 64}, SDXL_VAE, (CLIP_L, CLIP_BIG_G), 512, scheduler="turbo"
    ),
    "lcm": Architecture(SD, SD15_UNET | {"time_cond_proj_dim": 256}, SD_VAE, (CLIP_L,), 512, scheduler="lcm"),
    "sd3": Architecture(SD3, SD3_TRANSFORMER, SD3_VAE, (CLIP_L, CLIP_BIG_G), 1024, num_tokens=333, scheduler="flow"),
    "sd35-medium": Architecture(
        SD3, SD35_TRANSFORMER, SD3_VAE, (CLIP_L, CLIP_BIG_G), 1024, num_tokens=333, scheduler="flow"
    ),
}
