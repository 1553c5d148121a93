"""Models of random weights made in memory, tiny twins of every family: no files, no downloads."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal

import torch
from torch import nn

from .backbone import Backbone
from .clip_tokenizer import clip_tokenizer
from .costs.architectures import clip_config, scheduler_config
from .families import FAMILIES, SD, Family
from .families.family import TINY_WIDTH
from .models import Components
from .options import BackboneOptions

TINY_VAE: dict[str, Any] = {
    "block_out_channels": (8, 16, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "latent_channels": 4,
    "scaling_factor": 0.3,
    "mid_block_add_attention": False,
}
SHORT_NAMES = {"eps": "epsilon", "v": "v_prediction"}


def random_backbone(prediction_type: str = "epsilon", **options: Any) -> Backbone:
    """A backbone of about 0.1 M random weights; the same `seed` gives the same weights.

    Args:
        prediction_type: As in `random_components`.
        options: As in `random_components` (kind, in_channels, ...) and in `BackboneOptions` (device, dtype, ...).
    """
    how = {each.name: options.pop(each.name) for each in fields(BackboneOptions) if each.name in options}
    return Backbone(random_components(prediction_type, **options), **how)


def random_components(
    prediction_type: str = "epsilon",
    *,
    in_channels: int = 4,
    kind: str = SD.name,
    image_size: int = 32,
    seed: int = 0,
    distilled: Literal["turbo", "lcm"] | None = None,
) -> Components:
    """The parts of `random_backbone`, before they are frozen.

    Args:
        prediction_type: "epsilon" ("eps"), "v_prediction" ("v") or "flow"; a family of flows predicts one whatever
            this says.
        in_channels: 4, or 8 for a network with an image condition as InstructPix2Pix has.
        kind: Name of a family.
        image_size: Native side in pixels; latents are a quarter of it (VAE factor 4).
        seed: Of the weights; the global random state is left alone.
        distilled: The noise of a few-step model; "lcm" has a network that is told the guidance scale, too.
    """
    from diffusers import AutoencoderKL

    family = FAMILIES[kind]
    scheduler = distilled or ("flow" if family.is_flow else SHORT_NAMES.get(prediction_type, prediction_type))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        extra = {"time_cond_proj_dim": 8} if distilled == "lcm" else {}
        network = family.make_network(family.tiny_config(in_channels, image_size // 4) | extra)
        vae = AutoencoderKL(**TINY_VAE, sample_size=image_size)
        texts = family.make_clips([_tiny_clip(letter_tokenizer())] * len(family.clip_heads))
    return assembled(family, network, vae, texts, scheduler, f"random-{kind}-{scheduler}")


def assembled(
    family: Family, network: nn.Module, vae: nn.Module, clips: list[nn.Module], scheduler: str, model_id: str
) -> Components:
    """Components of random parts, with tokenizers of letters; text networks that are no CLIP (a T5) are left out."""
    left_out = [None] * (len(family.text_parts) - len(clips))
    return Components(
        family=family,
        network=network,
        vae=vae,
        tokenizers=[letter_tokenizer()] * len(clips) + left_out,
        text_networks=clips + left_out,
        scheduler_config=scheduler_config(scheduler),
        model_id=model_id,
    )


def letter_tokenizer(model_max_length: int = 77, extra_tokens: Sequence[str] = ()) -> Any:
    """A CLIPTokenizer without merges: every byte of a prompt is one token, whatever `extra_tokens` it also knows."""
    return clip_tokenizer([], extra_tokens, model_max_length=model_max_length)


def _tiny_clip(tokenizer: Any) -> dict[str, Any]:
    """Config of a text network of two layers for a tokenizer."""
    tokens = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    tokens |= {"vocab_size": len(tokenizer), "max_position_embeddings": tokenizer.model_max_length}
    return clip_config(TINY_WIDTH, 2, 4, TINY_WIDTH, intermediate_size=2 * TINY_WIDTH, **tokens)
