"""Filling holes in images: by a diffusion model, by any inpainting pipeline of diffusers, or without a network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..diffusion import Backbone, PromptEmbeds, load_backbone
from ..diffusion.precision import choose_dtype
from ..diffusion.sampling import blend, guided_by, timesteps_down
from ..pretrained import ModelLocation, ModelUse, check_model, locate
from ..seeds import Stream, generator

TELEA_RADIUS = 3.0
"""Pixels around a hole that its filling is drawn from."""
INPAINTER = ModelUse(
    key="system.inpainter",
    expected="telea, model, or a folder or hub id of an inpainting pipeline of diffusers",
    layout="an inpainting pipeline of diffusers (model_index.json beside the folders of its parts)",
    probe="model_index.json",
    fix="check the name, or set system.inpainter=telea",
)
START_FRAC = 0.98
"""Where denoising starts, as a share of the model's timesteps."""


@dataclass(frozen=True)
class Inpainter:
    """Fills holes in images, and says what does it.

    Attributes:
        fill: Images (b 3 h w) in [0, 1] and masks (b h w), true where to fill -> images, unchanged elsewhere.
        model_id: Hub id after aliases, or folder, of the network; None without one.
        revision: Commit of the hub id; None for a folder.
        image_size: Side in pixels that the network was trained on; None if any will do.
    """

    fill: Callable[[Tensor, Tensor], Tensor]
    model_id: str | None = None
    revision: str | None = None
    image_size: int | None = None


def check_inpainter(name: str, dtype: str | None) -> None:
    """Find what is wrong with the keys of an inpainter before any work, without the network.

    Raises:
        ConfigError: If `name` can be neither an inpainter, a folder nor a hub id, or the precision is unknown.
    """
    choose_dtype(dtype, torch.device("cpu"))
    if name not in ("telea", "model"):
        check_model(name, INPAINTER)


def load_inpainter(
    name: str,
    *,
    model: str,
    prompt: str,
    num_steps: int,
    guidance_scale: float,
    seed: int,
    device: torch.device,
    dtype: str | None = None,
    revision: str | None = None,
    is_offline: bool = False,
) -> Inpainter:
    """An inpainter by name.

    Args:
        name: ``telea`` (no network: smooth continuation of the surroundings), ``model`` (the diffusion model, what is
            known being put back at every step), or a folder or hub id of an inpainting pipeline of diffusers.
        model: Diffusion model for ``model``.
        prompt: What should be there; read by the networks.
        num_steps: Denoising steps.
        guidance_scale: Of classifier-free guidance.
        seed: Decides the noise; the same for all views, so that their fillings agree better.
        device: Where networks run.
        dtype: Their precision, fp32, bf16 or fp16; None chooses for the device.
        revision: Branch, tag or commit of a hub id.
        is_offline: Whether to look only into the local hub cache.

    Raises:
        ConfigError: If a pipeline cannot be loaded, or inpaints nothing.
    """
    check_inpainter(name, dtype)
    if name == "telea":
        return Inpainter(telea)
    if name == "model":
        backbone = load_backbone(model, device=device, dtype=dtype, revision=revision, offline=is_offline)
        prompts = backbone.encode_prompts([prompt, ""])
        backbone.free_text_encoder()
        return Inpainter(
            lambda images, masks: blended(backbone, images, masks, prompts, num_steps, guidance_scale, seed),
            backbone.model_id, backbone.revision, backbone.image_size,
        )  # fmt: skip
    location = locate(name, INPAINTER, revision=revision, is_offline=is_offline)
    pipeline = _load_pipeline(location, device, dtype)
    fill = _fill_with(pipeline, prompt, num_steps, guidance_scale, seed)
    return Inpainter(fill, location.location, location.revision, _native_size(pipeline))


def telea(images: Float[Tensor, "b 3 h w"], masks: Bool[Tensor, "b h w"]) -> Float[Tensor, "b 3 h w"]:
    """Fast marching from the border of the hole inwards (Telea 2004), as OpenCV has it."""
    filled = []
    for image, mask in zip(images, masks, strict=True):
        pixels = (image.permute(1, 2, 0).clamp(0, 1).cpu().numpy() * 255).round().astype(np.uint8)
        pixels = cv2.inpaint(pixels, mask.cpu().numpy().astype(np.uint8), TELEA_RADIUS, cv2.INPAINT_TELEA)
        filled.append(torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1))
    return torch.where(masks[:, None], torch.stack(filled).to(images), images)


@torch.no_grad()
def blended(
    backbone: Backbone,
    images: Float[Tensor, "b 3 h w"],
    masks: Bool[Tensor, "b h w"],
    prompts: PromptEmbeds,
    num_steps: int,
    guidance_scale: float,
    seed: int,
) -> Float[Tensor, "b 3 h w"]:
    """Blended latent diffusion (Avrahami et al. 2023, arXiv:2206.02779), see ``blend``; any text-to-image model does.

    Args:
        backbone: The model.
        images: Images of a size it takes.
        masks: Where to fill.
        prompts: Two rows: the prompt, the empty one.
        num_steps: Steps, >= 1.
        guidance_scale: Of classifier-free guidance.
        seed: Of the noise, which all images share.
    """
    latents = backbone.encode(images)
    is_free = torch.nn.functional.adaptive_max_pool2d(masks[:, None].float(), latents.shape[-2:]) > 0
    noise = torch.randn(latents.shape[1:], generator=generator(seed, 0, Stream.INPAINTING)).to(latents)
    path = timesteps_down(backbone, num_steps, START_FRAC)
    predict = guided_by(backbone, prompts[0], prompts[1], guidance_scale)
    filled = backbone.decode(blend(backbone, latents, is_free, noise.expand_as(latents), path, predict))
    return torch.where(masks[:, None], filled, images)


def _load_pipeline(location: ModelLocation, device: torch.device, dtype: str | None) -> Any:
    """An inpainting pipeline of diffusers, on the device and in the precision that suits it."""
    from diffusers import AutoPipelineForInpainting

    is_transformer = "transformer" in location.read_json("model_index.json")
    precision = choose_dtype(dtype, device, torch.bfloat16 if is_transformer else torch.float16)
    pipeline = location.read(AutoPipelineForInpainting.from_pretrained, dtype=precision).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _native_size(pipeline: Any) -> int | None:
    """Side in pixels that a pipeline's network was trained on, if it says so."""
    network = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    side = getattr(getattr(network, "config", None), "sample_size", None)
    return side * pipeline.vae_scale_factor if isinstance(side, int) else None


def _fill_with(
    pipeline: Any, prompt: str, num_steps: int, guidance_scale: float, seed: int
) -> Callable[[Tensor, Tensor], Tensor]:
    """Filling by a pipeline of diffusers, image by image."""

    def fill(images: Tensor, masks: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        filled = []
        for image, mask in zip(images, masks, strict=True):
            result = pipeline(
                prompt=prompt, image=image[None].clamp(0, 1), mask_image=mask[None, None].float(), height=height,
                width=width, num_inference_steps=num_steps, guidance_scale=guidance_scale, output_type="np",
                generator=generator(seed, 0, Stream.INPAINTING),
            )  # fmt: skip
            filled.append(torch.from_numpy(np.asarray(result.images[0], np.float32)).permute(2, 0, 1))
        return torch.where(masks[:, None], torch.stack(filled).to(images), images)

    return fill
