"""The command that measures the embedded text-to-image model: ``--run tiny-quality``."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import threestudio
from threestudio.utils.base import Configurable

from ..errors import check_least


@threestudio.register("app-tiny-quality")
class TinyQuality(Configurable):
    """Measure the embedded model on held-out scenes and prompts; writes quality.json and samples, or few-steps.json."""

    needs_config = False

    @dataclass
    class Config:
        """Keys of the measurement."""

        model: str = "data/tiny-ldm"
        """Folder of the model."""
        lora: str = ""
        """LoRA that makes it a few-step model: both are measured in few steps, and nothing else; empty: none."""
        out: str = "outputs/tiny-quality"
        """Where the report goes."""
        num_prompts: int = 288
        """Random full prompts, one sample each."""
        num_renders: int = 192
        """Held-out renders that are reconstructed; as many with the object off the middle are drawn anew."""
        num_edges: int = 24
        """Cubes, and cars, whose edges are compared with renders; 0: none."""
        steps: int = 20
        """Steps of the deterministic sampler (DDIM)."""
        guidance_scales: list[float] = field(default_factory=lambda: [1.0, 5.0])
        """Guidance scales of the samples; 1 is no guidance; of few steps, the last one."""

    def __call__(self, experiment: object) -> int:
        """Measure and write."""
        cfg = self.cfg
        least = {"num_prompts": 1, "num_renders": 1, "num_edges": 0, "steps": 1}
        check_least("run", cfg, self.Config, least)
        if cfg.lora:
            from ..training import few_steps

            scale = cfg.guidance_scales[-1]
            report = few_steps.measure(
                cfg.model, cfg.lora, Path(cfg.out), num_prompts=cfg.num_prompts, guidance_scale=scale
            )
        else:
            from ..training import quality

            report = quality.measure(
                cfg.model, Path(cfg.out), num_prompts=cfg.num_prompts, num_renders=cfg.num_renders,
                num_edges=cfg.num_edges, num_steps=cfg.steps, guidance_scales=list(cfg.guidance_scales),
            )  # fmt: skip
        threestudio.info(json.dumps(report, indent=1))
        return 0
