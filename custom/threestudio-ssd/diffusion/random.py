"""A tiny Stable-Diffusion-style model with random weights, made in memory: no files, no downloads."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from .architectures import ARCHITECTURES
from .backbone import Backbone
from .models import Components

SCHEDULERS: dict[str, dict[str, Any]] = {
    "epsilon": {"_class_name": "DDIMScheduler", "prediction_type": "epsilon", "steps_offset": 1},
    "v_prediction": {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction", "steps_offset": 1},
    "flow": {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0, "num_train_timesteps": 1000},
    "turbo": {"_class_name": "EulerDiscreteScheduler", "prediction_type": "epsilon", "timestep_spacing": "trailing"},
    "lcm": {"_class_name": "LCMScheduler", "prediction_type": "epsilon", "original_inference_steps": 50},
}
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
TEXT_WIDTH = 32
SHORT_NAMES = {"eps": "epsilon", "v": "v_prediction"}


def random_backbone(
    prediction_type: str = "epsilon",
    *,
    in_channels: int = 4,
    kind: str = "sd",
    image_size: int = 32,
    seed: int = 0,
    distilled: Literal["turbo", "lcm"] | None = None,
    **options: Any,
) -> Backbone:
    """A backbone of about 0.1 M random weights; the same `seed` gives the same weights.

    Args:
        prediction_type: "epsilon" ("eps"), "v_prediction" ("v") or "flow".
        in_channels: 4, or 8 for a network with an image condition as InstructPix2Pix has.
        kind: "sd", "sdxl" (two text encoders, pooled embedding, size conditions) or "sd3" (a transformer that
            predicts a flow, whatever `prediction_type` says).
        image_size: Native side in pixels; latents are a quarter of it (VAE factor 4).
        seed: Of the weights; the global random state is left alone.
        distilled: The noise of a few-step model; "lcm" has a network that is told the guidance scale, too.
        options: Passed on to `Backbone` (device, dtype, freeu, ...).
    """
    components = random_components(
        prediction_type, in_channels=in_channels, kind=kind, image_size=image_size, seed=seed, distilled=distilled
    )
    return Backbone(components, **options)


def random_components(
    prediction_type: str = "epsilon",
    *,
    in_channels: int = 4,
    kind: str = "sd",
    image_size: int = 32,
    seed: int = 0,
    distilled: Literal["turbo", "lcm"] | None = None,
) -> Components:
    """The parts of `random_backbone`, before they are frozen."""
    from diffusers import AutoencoderKL

    prediction_type = "flow" if kind == "sd3" else SHORT_NAMES.get(prediction_type, prediction_type)
    num_texts = {"sd": 1, "sdxl": 2, "sd3": 2}[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        make_network = _random_transformer if kind == "sd3" else _random_unet
        extra = {"time_cond_proj_dim": 8} if distilled == "lcm" else {}
        network = make_network(kind, in_channels, image_size // 4, **extra)
        vae = AutoencoderKL(
            block_out_channels=(8, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            layers_per_block=1,
            norm_num_groups=4,
            latent_channels=4,
            sample_size=image_size,
            scaling_factor=0.3,
            mid_block_add_attention=False,
        )
        tokenizer = letter_tokenizer()
        texts = [_text_network(tokenizer, kind == "sd3" or index == 1) for index in range(num_texts)]
    missing = [None] if kind == "sd3" else []  # an SD 3 without its T5
    scheduler = SCHEDULERS[distilled or prediction_type]
    return Components(
        kind=kind,
        network=network,
        vae=vae,
        tokenizers=[tokenizer] * num_texts + missing,
        text_networks=texts + missing,
        scheduler_config=scheduler if prediction_type == "flow" else scheduler | BETAS,
        model_id=f"random-{kind}-{distilled or prediction_type}",
    )


def full_size_components(name: str, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Components:
    """A published architecture at its full size, with random weights: what a real model costs, without a download.

    Args:
        name: A key of ARCHITECTURES, such as "sd15" (1.1 G weights).
        dtype: Of the weights.
        seed: Of the weights; the global random state is left alone.
    """
    architecture = ARCHITECTURES[name]
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network, vae, texts = architecture.make_network(), architecture.make_vae(), architecture.make_texts()
    finally:
        torch.set_default_dtype(default)
    missing = [None] if architecture.kind == "sd3" else []
    return Components(
        kind=architecture.kind,
        network=network,
        vae=vae,
        tokenizers=[letter_tokenizer()] * len(texts) + missing,
        text_networks=texts + missing,
        scheduler_config=SCHEDULERS[architecture.scheduler] | ({} if architecture.scheduler == "flow" else BETAS),
        model_id=f"random-{name}",
    )


def _random_unet(kind: str, in_channels: int, sample_size: int, **more: Any) -> nn.Module:
    from diffusers import UNet2DConditionModel

    extra = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": TEXT_WIDTH + 6 * 8,
    }
    return UNet2DConditionModel(
        sample_size=sample_size,
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=(16, 24, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=2,
        cross_attention_dim=TEXT_WIDTH * (2 if kind == "sdxl" else 1),
        **(extra if kind == "sdxl" else {}),
        **more,
    )


def _random_transformer(kind: str, in_channels: int, sample_size: int) -> nn.Module:
    from diffusers import SD3Transformer2DModel

    return SD3Transformer2DModel(
        sample_size=sample_size,
        patch_size=2,
        in_channels=in_channels,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=2 * TEXT_WIDTH,
        caption_projection_dim=16,
        pooled_projection_dim=2 * TEXT_WIDTH,
        pos_embed_max_size=32,
    )


def letter_tokenizer(model_max_length: int = 77, extra_tokens: Sequence[str] = ()) -> Any:
    """A CLIPTokenizer without merges: every byte of a prompt is one token, whatever `extra_tokens` it also knows."""
    from transformers import CLIPTokenizer

    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in printable] + [chr(256 + index) for index in range(256 - len(printable))]
    tokens = [*letters, *(letter + "</w>" for letter in letters), *extra_tokens, "<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=model_max_length)


def _text_network(tokenizer: Any, has_projection: bool) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if has_projection else CLIPTextModel)(config)
