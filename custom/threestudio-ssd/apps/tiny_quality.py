"""How good the embedded model is: reconstructions, and how often samples show what was asked for."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

import threestudio
from threestudio.utils.base import Configurable

from ..diffusion import Backbone, load_backbone
from ..diffusion.sampling import denoise, guided_by, timesteps_down
from ..metrics import psnr
from ..rendering import render_each
from ..toyworld import ATTRIBUTES, Attributes, build_scene, sample_attributes, sample_camera
from ..toyworld.captions import describe
from ..toyworld.classifier import load_classifier
from ..toyworld.splat import to_cameras, to_gaussians
from .color_jitter import jitter_colors

HELD_OUT_SEED = 10_000_000
"""Scenes from this seed on were never trained on."""


@threestudio.register("app-tiny-quality")
class TinyQuality(Configurable):
    """Measure the embedded model on held-out scenes and prompts; writes quality.json and samples.png."""

    needs_config = False

    @dataclass
    class Config:
        """Keys of the measurement."""

        model: str = "data/tiny-ldm"
        """Folder of the model."""
        out: str = "outputs/tiny-quality"
        """Where the report goes."""
        num_prompts: int = 288
        """Random full prompts, one sample each."""
        num_renders: int = 192
        """Held-out renders that are reconstructed."""
        steps: int = 20
        """Steps of the deterministic sampler (DDIM)."""
        guidance_scales: list[float] = field(default_factory=lambda: [1.0, 5.0])
        """Guidance scales of the samples; 1 is no guidance."""

    def __call__(self, experiment: object) -> int:
        """Measure and write."""
        out = Path(self.cfg.out)
        out.mkdir(parents=True, exist_ok=True)
        backbone = load_backbone(self.cfg.model)
        report: dict[str, Any] = {"model": self.cfg.model, **self._reconstructions(backbone)}
        rng = np.random.default_rng(HELD_OUT_SEED)
        wanted = [sample_attributes(rng) for _ in range(self.cfg.num_prompts)]
        for scale in self.cfg.guidance_scales:
            images = sample(backbone, [describe(attributes) for attributes in wanted], scale, self.cfg.steps)
            report[f"samples at guidance {scale:g}"] = hit_rates(images, wanted)
            _save_grid(images[:48], out / f"samples-{scale:g}.png")
        (out / "quality.json").write_text(json.dumps(report, indent=1))
        threestudio.info(json.dumps(report, indent=1))
        return 0

    def _reconstructions(self, backbone: Backbone) -> dict[str, float]:
        clean = held_out_renders(self.cfg.num_renders, backbone.image_size)
        altered = jitter_colors(clean, np.random.default_rng(HELD_OUT_SEED))
        with torch.no_grad():
            pairs = {
                name: (x, backbone.decode(backbone.encode(x))) for name, x in (("clean", clean), ("altered", altered))
            }
        return {
            f"reconstruction of {name} renders, dB": round(float(psnr(b, a).mean()), 2)
            for name, (a, b) in pairs.items()
        }


def held_out_renders(count: int, size: int) -> Float[Tensor, "b 3 h w"]:
    """Renders of scenes no model was trained on, in [0, 1]."""
    images = []
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + count):
        rng = np.random.default_rng([seed, 9])
        scene = to_gaussians(build_scene(sample_attributes(rng), seed))
        images += render_each(scene, to_cameras([sample_camera(rng)], size, size), torch.zeros(3))
    return torch.stack(images).permute(0, 3, 1, 2)


@torch.no_grad()
def sample(
    backbone: Backbone, prompts: list[str], guidance_scale: float, num_steps: int, batch: int = 48
) -> Float[Tensor, "b 3 h w"]:
    """Images by DDIM (Song et al. 2020, arXiv:2010.02502, eta 0) from seeded noise."""
    path, null = timesteps_down(backbone, num_steps), backbone.encode_prompts([""])
    side, images = backbone.image_size // backbone.downscale, []
    for start in range(0, len(prompts), batch):
        embeds = backbone.encode_prompts(prompts[start : start + batch])
        generator = torch.Generator().manual_seed(HELD_OUT_SEED + start)
        noise = torch.randn(len(embeds), backbone.latent_channels, side, side, generator=generator)
        predict = guided_by(backbone, embeds, null, guidance_scale)
        images.append(backbone.decode(denoise(backbone, noise, path, predict)))
    return torch.cat(images)


def hit_rates(images: Float[Tensor, "b 3 h w"], wanted: list[Attributes]) -> dict[str, float]:
    """Share of pictures in which the independent classifier reads each asked-for attribute, and all of them."""
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


def _save_grid(images: Float[Tensor, "b 3 h w"], path: Path, columns: int = 12) -> None:
    rows = [torch.cat(list(row), dim=2) for row in images.split(columns) if len(row) == columns]
    picture = (torch.cat(rows, dim=1).permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(picture).resize((picture.shape[1] * 2, picture.shape[0] * 2), Image.BICUBIC).save(path)
