"""Filling holes in pictures: by a diffusion model, by any inpainting pipeline of diffusers, or without a network."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..diffusion import Backbone, load_backbone
from ..diffusion.hub import fetch_file, resolve_model
from ..diffusion.precision import choose_dtype
from ..errors import ConfigError, first_line

TELEA_RADIUS = 3.0
"""Pixels around a hole that its filling is drawn from."""
KEY = "system.inpainter"
EXPECTED = "telea, model, or a folder or hub id of an inpainting pipeline of diffusers"
FIX = f"check the name, or set {KEY}=telea"


@dataclass(frozen=True)
class Inpainter:
    """Fills holes in pictures, and says what does it.

    Attributes:
        fill: Pictures (b 3 h w) in [0, 1] and masks (b h w), true where to fill -> pictures, unchanged elsewhere.
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
    path = Path(name).expanduser()
    if name in ("telea", "model") or path.is_dir():
        return
    if path.is_absolute() or len(path.parts) != 2 or path.parent.is_dir():
        raise ConfigError(what=f"{KEY} {name} does not exist", expected=EXPECTED, fix=FIX)


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
    location, commit = resolve_model(name, revision=revision, is_offline=is_offline, key=KEY)
    pipeline = _load_pipeline(location, commit, device, dtype, is_offline)
    fill = _fill_with(pipeline, prompt, num_steps, guidance_scale, seed)
    return Inpainter(fill, location, commit, _native_size(pipeline))


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
    prompts: Any,
    num_steps: int,
    guidance_scale: float,
    seed: int,
) -> Float[Tensor, "b 3 h w"]:
    """Deterministic denoising from noise; at every step the known latents are put back at that step's noise level.

    Blended latent diffusion (Avrahami et al. 2023, arXiv:2206.02779) with DDIM steps; any text-to-image model will do.

    Args:
        backbone: The model.
        images: Pictures of a size it takes.
        masks: Where to fill.
        prompts: Two rows: the prompt, the empty one.
        num_steps: Steps, >= 1.
        guidance_scale: Of classifier-free guidance.
        seed: Of the noise, which all pictures share.
    """
    known = backbone.encode(images)
    holes = torch.nn.functional.adaptive_max_pool2d(masks[:, None].float(), known.shape[-2:])
    noise = torch.randn(known.shape[1:], generator=torch.Generator().manual_seed(seed)).to(known).expand_as(known)
    alphas = backbone.alphas_cumprod
    times = torch.linspace(0.98 * (backbone.num_timesteps - 1), 0, num_steps + 1).round().long().tolist()
    latents, both = backbone.add_noise(known, noise, times[0]), [0] * len(known) + [1] * len(known)
    rows = prompts[both]
    for now, later in zip(times[:-1], times[1:], strict=True):
        eps_cond, eps_null = backbone.predict_noise(latents.repeat(2, 1, 1, 1), now, rows).chunk(2)
        eps = eps_null + guidance_scale * (eps_cond - eps_null)
        clean = (latents - (1 - alphas[now]).sqrt() * eps) / alphas[now].sqrt()
        latents = backbone.add_noise(clean, eps, later) if later > 0 else clean
        back = backbone.add_noise(known, noise, later) if later > 0 else known
        latents = holes * latents + (1 - holes) * back
    return torch.where(masks[:, None], backbone.decode(latents), images)


def _load_pipeline(location: str, commit: str | None, device: torch.device, dtype: str | None, is_offline: bool) -> Any:
    """An inpainting pipeline of diffusers, on the device and in the precision that suits it."""
    from diffusers import AutoPipelineForInpainting

    try:
        path = fetch_file(location, "model_index.json", commit, is_offline)
        index = json.loads(path.read_text(encoding="utf-8")) if path is not None else {}
        kind = "sd3" if "transformer" in index else "sd"
        pipeline = AutoPipelineForInpainting.from_pretrained(
            location, revision=commit, local_files_only=is_offline, dtype=choose_dtype(dtype, device, kind)
        ).to(device)
    except (OSError, ValueError, KeyError) as cause:
        raise ConfigError(
            what=f"{KEY} {location} cannot be loaded ({first_line(cause)})", expected=EXPECTED, fix=FIX
        ) from cause
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
    """Filling by a pipeline of diffusers, picture by picture."""

    def fill(images: Tensor, masks: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        filled = []
        for image, mask in zip(images, masks, strict=True):
            result = pipeline(
                prompt=prompt, image=image[None].clamp(0, 1), mask_image=mask[None, None].float(), height=height,
                width=width, num_inference_steps=num_steps, guidance_scale=guidance_scale, output_type="np",
                generator=torch.Generator().manual_seed(seed),
            )  # fmt: skip
            filled.append(torch.from_numpy(np.asarray(result.images[0], np.float32)).permute(2, 0, 1))
        return torch.where(masks[:, None], torch.stack(filled).to(images), images)

    return fill
