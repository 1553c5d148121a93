"""How good the embedded text-to-image model is: reconstructions, and how often samples show what was asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..diffusion import Backbone, load_backbone
from ..diffusion.sampling import denoise, guided_by, timesteps_down
from ..files import whole_file, write_json
from ..metrics import psnr
from ..rendering import render_each
from ..toyworld import ATTRIBUTES, Attributes, build_scene, sample_attributes, sample_camera, sample_view
from ..toyworld.captions import describe, framed_prefix, framing_of
from ..toyworld.classifier import load_classifier
from ..toyworld.splat import to_cameras, to_gaussians
from . import edges
from .augment import jitter_colors
from .scenes import CHOICE_STREAM, render_with_masks

HELD_OUT_SEED = 10_000_000
"""Scenes from this seed on are in no training data at all, whatever the held-out rule was."""
NUM_GRID_IMAGES, GRID_COLUMNS = 48, 12
BATCH = 48
"""Images that are sampled together; the noise of a sample depends on its place among them."""
REDRAWN_FRAC = 0.7
"""Share of the timesteps up to which wide views get noise before they are drawn anew."""


def measure(
    model: str, out: Path, *, num_prompts: int, num_renders: int, num_edges: int, num_steps: int,
    guidance_scales: list[float],
) -> dict[str, Any]:  # fmt: skip
    """Measure a model on held-out scenes and prompts; writes ``quality.json`` and a grid of samples for each scale.

    Args:
        model: Folder of the model.
        out: Where the files go.
        num_prompts: Random full prompts, one sample each.
        num_renders: Held-out renders that are reconstructed; as many are redrawn.
        num_edges: Cubes, and cars, whose edges are compared with renders.
        num_steps: Steps of the sampler.
        guidance_scales: Guidance scales of the samples; 1 is no guidance.

    Returns:
        What ``quality.json`` holds: PSNRs of reconstructions in dB; by guidance scale, shares of right attributes of
        samples and of redrawn views, and F-scores of edges.
    """
    backbone = load_backbone(model)
    report: dict[str, Any] = {"model": model, **reconstruction_quality(backbone, num_renders)}
    rng = np.random.default_rng(HELD_OUT_SEED)
    wanted = [sample_attributes(rng) for _ in range(num_prompts)]
    for scale in guidance_scales:
        images = sample(backbone, [describe(attributes) for attributes in wanted], scale, num_steps)
        report[f"samples at guidance {scale:g}"] = hit_rates(images, wanted)
        _save_grid(images[:NUM_GRID_IMAGES], out / f"samples-{scale:g}.png")
        report[f"redrawn wide views at guidance {scale:g}"] = redrawn_quality(backbone, num_renders, scale, num_steps)
        for thing in edges.OBJECTS if num_edges else ():
            cases = edges.draw_cases(thing, num_edges, np.random.default_rng(HELD_OUT_SEED))
            for has_side in (False, True) if has_view_words(backbone) else (False,):
                name = f"{thing}s seen from a given side" if has_side else f"{thing}s"
                prompts = [describe(case.attributes) + (f" {case.words}" if has_side else "") for case in cases]
                images = sample(backbone, prompts, scale, num_steps)
                figures = edges.edge_figures(backbone, images, cases, HELD_OUT_SEED, has_side=has_side)
                report[f"edges of {name} at guidance {scale:g}"] = figures
                _save_grid(images[:NUM_GRID_IMAGES], out / f"{name.replace(' ', '-')}-{scale:g}.png")
    write_json(out / "quality.json", report)
    return report


@torch.no_grad()
def reconstruction_quality(backbone: Backbone, num_renders: int) -> dict[str, float]:
    """PSNR in dB of encoded and decoded held-out renders, as they are and with altered colours."""
    clean = held_out_renders(num_renders, backbone.image_size)
    altered = jitter_colors(clean, np.random.default_rng(HELD_OUT_SEED))
    figures = {}
    for name, images in (("clean", clean), ("altered", altered)):
        decoded = backbone.decode(backbone.encode(images))
        figures[f"reconstruction of {name} renders, dB"] = round(float(psnr(decoded, images).mean()), 2)
    return figures


def has_view_words(backbone: Backbone) -> bool:
    """Whether a model was trained with the words of views: "seen" is one token of it."""
    encoders = backbone.text_encoders
    return encoders is not None and len(encoders.tokenizers[0]("seen")["input_ids"]) == 3


@torch.no_grad()
def redrawn_quality(backbone: Backbone, count: int, guidance_scale: float, num_steps: int) -> dict[str, float]:
    """Whether objects off the middle, small or large, are drawn where they are.

    Held-out wide views get noise up to ``REDRAWN_FRAC`` of the timesteps and are denoised with their caption.

    Returns:
        F-scores of the edges of the object where it was, of redrawn and of reconstructed views, and their ratio; the
        shares of redrawn views with the right colour, pattern, ground and time. What the object is, the classifier
        does not read well in such views.
    """
    rng, size, has_words = np.random.default_rng(HELD_OUT_SEED), backbone.image_size, has_view_words(backbone)
    renders, masks, wanted, prompts = [], [], [], []
    while len(renders) < count:
        seed, attributes, view = HELD_OUT_SEED + len(renders), sample_attributes(rng), sample_view(rng, is_wide=True)
        framing = framing_of(view.share, view.offset)
        if framing:
            pixels, mask = render_with_masks(build_scene(attributes, seed), to_cameras([view.camera], size, size))
            renders.append(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
            masks.append(torch.from_numpy(mask))
            wanted.append(attributes)
            prompts.append(describe(attributes, framed_prefix(framing if has_words else "")))
    path, null = timesteps_down(backbone, num_steps, REDRAWN_FRAC), backbone.encode_prompts([""])
    generator, redrawn, scores = torch.Generator().manual_seed(HELD_OUT_SEED), [], []
    for start in range(0, count, BATCH):
        latents = backbone.encode(torch.cat(renders[start : start + BATCH]))
        decoded = backbone.decode(latents)
        noisy = backbone.add_noise(latents, torch.randn(latents.shape, generator=generator), path[0])
        embeds = backbone.encode_prompts(prompts[start : start + BATCH])
        images = backbone.decode(denoise(backbone, noisy, path, guided_by(backbone, embeds, null, guidance_scale)))
        redrawn.append(images)
        for place, pair in enumerate(zip(images, decoded, strict=True), start):
            bank = edges.bank_of(renders[place], masks[place])
            scores.append([edges.best_f_score(image, bank, max_shift=0) for image in pair])
    rates = hit_rates(torch.cat(redrawn), wanted)
    return {name: rates[name] for name in ("color", "pattern", "ground", "time")} | edges.as_figures(scores, "redrawn")


def held_out_renders(count: int, size: int) -> Float[Tensor, "b 3 h w"]:
    """Renders of scenes no model was trained on, in [0, 1]."""
    images = []
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + count):
        rng = np.random.default_rng([seed, CHOICE_STREAM])
        scene = to_gaussians(build_scene(sample_attributes(rng), seed))
        images += render_each(scene, to_cameras([sample_camera(rng)], size, size), torch.zeros(3))
    return torch.stack(images).permute(0, 3, 1, 2)


@torch.no_grad()
def sample(
    backbone: Backbone, prompts: list[str], guidance_scale: float, num_steps: int, batch: int = BATCH
) -> Float[Tensor, "b 3 h w"]:
    """Images by DDIM (Song et al. 2020, arXiv:2010.02502, eta 0) from seeded noise."""
    path, null = timesteps_down(backbone, num_steps), backbone.encode_prompts([""])
    side, images = backbone.image_size // backbone.downscale, []
    for start in range(0, len(prompts), batch):
        embeds = backbone.encode_prompts(prompts[start : start + batch])
        generator = torch.Generator().manual_seed(HELD_OUT_SEED + start)
        noise = torch.randn(len(embeds), backbone.latent_channels, side, side, generator=generator)
        images.append(
            backbone.decode(denoise(backbone, noise, path, guided_by(backbone, embeds, null, guidance_scale)))
        )
    return torch.cat(images)


def hit_rates(images: Float[Tensor, "b 3 h w"], wanted: list[Attributes]) -> dict[str, float]:
    """Share of images in which the independent classifier reads each asked-for attribute, and all of them."""
    readings = load_classifier()(images)
    hits = {
        name: np.array([word == getattr(a, name) for word, a in zip(readings[name].words, wanted, strict=True)])
        for name in ATTRIBUTES
    }
    rates = {name: round(float(hit.mean()), 3) for name, hit in hits.items()}
    colors = {
        f"color {word}": round(float(hits["color"][[a.color == word for a in wanted]].mean()), 2)
        for word in ATTRIBUTES["color"]
        if any(a.color == word for a in wanted)
    }
    return rates | {"all": round(float(np.all(list(hits.values()), axis=0).mean()), 3)} | colors


def _save_grid(images: Float[Tensor, "b 3 h w"], path: Path) -> None:
    rows = [torch.cat(list(row), dim=2) for row in images.split(GRID_COLUMNS) if len(row) == GRID_COLUMNS]
    if rows:
        pixels = (torch.cat(rows, dim=1).permute(1, 2, 0) * 255).round().byte().numpy()
        grid = Image.fromarray(pixels).resize((pixels.shape[1] * 2, pixels.shape[0] * 2), Image.Resampling.BICUBIC)
        with whole_file(path) as beside:
            grid.save(beside)
