"""Figures for any two splats and cameras, whoever made them; with a benchmark's config, the benchmark."""

import json
import sys
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

import threestudio
from threestudio.utils.base import Configurable

from ..cameras import Cameras, World, load_cameras
from ..data import SceneViews
from ..data.gs_views import GSViews
from ..errors import ConfigError
from ..files import write_text
from ..gaussians import Gaussians
from ..gaussians.io import load_gaussians
from ..masks import MaskConfig, check_mask, find_selection
from ..masks.selection import describe_mask
from ..metrics import (
    IDENTICAL_PSNR,
    clip_direction_consistency,
    clip_scores,
    edit_regions,
    load_structure_model,
    lpips,
    mse,
    psnr,
    saturation_drift,
    ssim,
    structure_distance,
    tiny_perceptual_distance,
)
from ..rendering import coverage, render_each

GRID_VIEWS = 6
SCRIPT_VIEWS = 96
"""Orbit views that stand for the folder of renders that the released script draws from."""


@threestudio.register("app-evaluate")
class Evaluate(Configurable):
    """Measure an edit: BEFORE AFTER [CAMERAS], splats of any tool; or a benchmark: --config configs/bench/toy.yaml."""

    needs_config = False
    positional = ("before", "after", "cameras")

    @dataclass
    class Config:
        """Keys of the measurement."""

        before: str = ""
        """Splat before the edit."""
        after: str = ""
        """Splat after it, same coordinates."""
        cameras: str = ""
        """File or folder of cameras, as for an edit; empty: an orbit fitted to the first splat."""
        world: World = "auto"
        """Axes and scale of a transforms.json's cameras, as ``data.world`` of an edit."""
        dataparser: str = ""
        """dataparser_transforms.json of a nerfstudio training run, as ``data.dataparser`` of an edit."""
        up: str | None = None
        """Up axis of an orbit, +x .. -z; none finds it."""
        truth: str = ""
        """Splat of what the edit should be, if there is one."""
        source_prompt: str = ""
        """Caption of the source; without captions there are no CLIP figures."""
        target_prompt: str = ""
        """Caption of the wanted edit."""
        protocol: Literal["paired-views", "ssd-released-script"] = "paired-views"
        """paired-views: the metric; ssd-released-script: what the paper's released script computes, defects and all."""
        num_views: int = 20
        """Poses, drawn once by ``seed`` and the same for both splats, >= 2; the paper's 20."""
        path_frames: int = 24
        """Frames of the path on which neighbours are compared, >= 2: a turntable, or the capture in its order."""
        seed: int = 0
        """Draws the poses, and the views of the released script."""
        size: int = 512
        """Shorter side of the renders, pixels."""
        background: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
        """Colour behind the scene, RGB in [0, 1]."""
        clip_model: str = "tiny-clip"
        """tiny-clip compares runs with each other; ViT-L/14 is the published one."""
        lpips_net: Literal["none", "alex", "squeeze", "vgg"] = "none"
        """LPIPS between before and after; its weights come from torch's hub cache or the network."""
        structure_model: str = ""
        """facebook/dino-vitb8 for the structure distance; empty: none."""
        mask: MaskConfig = field(default_factory=MaskConfig)
        """What was to change, as for an edit, found on the first splat: figures inside and outside of it."""
        out: str = "outputs/evaluate"
        """Where ``evaluate.json evaluate.md views.png`` go."""

    cfg: Config

    def __call__(self, experiment: DictConfig | None) -> int:
        """Measure, or run the benchmark of the config."""
        if not self.cfg.before and not self.cfg.after:
            return self._benchmark(experiment)
        figures, pictures = evaluate_edit(self.cfg)
        out = Path(self.cfg.out)
        out.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pictures).save(out / "views.png")
        write_text(out / "evaluate.json", json.dumps(figures, indent=1) + "\n")
        text = as_markdown(figures)
        write_text(out / "evaluate.md", text)
        sys.stdout.write(f"{text}\n{out / 'evaluate.json'}\n")
        return 0

    def _benchmark(self, experiment: DictConfig | None) -> int:
        if experiment is None or experiment.system_type != "toy-benchmark":
            raise ConfigError(
                what="--run evaluate was given no splats",
                expected="BEFORE AFTER [CAMERAS], or --config of a benchmark",
                fix="write --run evaluate before.ply after.ply cameras.json, or --config configs/bench/toy.yaml",
            )
        from .bench_edits import run_benchmark

        sys.stdout.write(f"{run_benchmark(experiment)}\n")
        return 0


def evaluate_edit(cfg: Any) -> tuple[dict[str, Any], np.ndarray]:
    """Figures of an edit, and a picture of some views (before above after).

    Args:
        cfg: Keys of ``Evaluate.Config``.

    Raises:
        ConfigError: If a splat is not named, there are too few views, or the protocol needs prompts.
    """
    _check(cfg)
    before, after = load_gaussians(cfg.before), load_gaussians(cfg.after)
    data, views = evaluation_views(cfg, before)
    background = torch.tensor(list(cfg.background))

    def pictures(gaussians: Gaussians, cameras: Cameras) -> Float[Tensor, "c 3 h w"]:
        return torch.stack(list(render_each(gaussians, cameras, background))).permute(0, 3, 1, 2)

    source, edited = pictures(before, views.train), pictures(after, views.train)
    path = [pictures(each, views.video) for each in (before, after)] if len(views.video) > 1 else None
    clip_figures = _clip_figures(cfg, source, edited, path)
    some = torch.linspace(0, len(source) - 1, min(cfg.num_views, len(source))).round().long()
    cameras, source, edited = views.train[some], source[some], edited[some]
    figures = {
        "before": cfg.before, "after": cfg.after,
        "num_gaussians_before": len(before), "num_gaussians_after": len(after),
        "num_views": len(cameras), "size": list(source.shape[-2:]), **clip_figures, **_change(cfg, source, edited),
    }  # fmt: skip
    if describe_mask(cfg.mask) != "everything":
        is_selected = find_selection(cfg.mask, before, views.train, data.capture, background).is_selected
        figures |= {"num_selected": int(is_selected.sum())}
        is_inside, is_outside = edit_regions(coverage(before, is_selected, cameras))
        for where, masks in (("inside", is_inside), ("outside", is_outside)):
            figures |= _change(cfg, source, edited, masks, f"_{where}")
    if cfg.structure_model:
        model = load_structure_model(cfg.structure_model)
        figures["structure_distance"] = float(structure_distance(edited, source, model).mean())
        figures["structure_model"] = model.label
    if cfg.truth:
        truth = pictures(load_gaussians(cfg.truth), cameras)
        figures |= {
            "psnr_to_truth": _mean_psnr(edited, truth), "psnr_to_truth_before": _mean_psnr(source, truth),
            "ssim_to_truth": float(ssim(edited, truth).mean()),
            "saturation_drift": float(saturation_drift(edited, truth).mean()),
        }  # fmt: skip
    rows = [torch.cat(list(stack[:GRID_VIEWS].permute(0, 2, 3, 1)), dim=1) for stack in (source, edited)]
    return figures, (torch.cat(rows).numpy() * 255 + 0.5).astype(np.uint8)


def evaluation_views(cfg: Any, gaussians: Gaussians) -> tuple[GSViews, SceneViews]:
    """The poses: ``train`` those that figures are means over, ``video`` the path whose neighbours are compared.

    The released script draws twice from a whole folder of renders, so for it ``train`` holds every view of the capture,
    or ``SCRIPT_VIEWS`` of an orbit; the path is empty where nothing is compared on it.

    Args:
        cfg: Keys of ``Evaluate.Config``.
        gaussians: The scene before the edit.
    """
    is_paired, num_views = cfg.protocol == "paired-views", cfg.num_views
    if not is_paired:
        num_views = len(load_cameras(cfg.cameras)) if cfg.cameras else max(SCRIPT_VIEWS, num_views)
    keys = {key: cfg[key] for key in ("cameras", "world", "dataparser", "up", "size", "seed")}
    keys |= {
        "num_train_views": num_views, "test_size": cfg.size,
        "video_frames": cfg.path_frames if is_paired and cfg.target_prompt else 0,
    }  # fmt: skip
    data = GSViews(keys)
    return data, data.views(gaussians, cfg.size, 2)


def _check(cfg: Any) -> None:
    for key in ("before", "after"):
        if not cfg[key]:
            raise ConfigError(what=f"{key} is empty", expected="a splat file", fix=f"set {key}=scene.ply")
    for key, usual in (("num_views", 20), ("path_frames", 24)):
        if cfg[key] < 2:
            raise ConfigError(what=f"{key} is {cfg[key]}", expected="at least 2", fix=f"set {key}={usual}")
    check_mask(cfg.mask)
    has_prompts = bool(cfg.source_prompt.strip() and cfg.target_prompt.strip())
    if not has_prompts and (cfg.protocol != "paired-views" or cfg.source_prompt or cfg.target_prompt):
        raise ConfigError(
            what="one of source_prompt and target_prompt is empty", expected="both captions",
            fix='set source_prompt="a photo of ..." target_prompt="a photo of ..."',
        )  # fmt: skip


def _clip_figures(cfg: Any, source: Tensor, edited: Tensor, path: list[Tensor] | None) -> dict[str, Any]:
    if not cfg.target_prompt:
        return {}
    texts = cfg.source_prompt, cfg.target_prompt
    scores = clip_scores(
        source, edited, *texts, cfg.clip_model, protocol=cfg.protocol, num_views=cfg.num_views,
        generator=torch.Generator().manual_seed(cfg.seed),
    )  # fmt: skip
    found = {"source_prompt": texts[0], "target_prompt": texts[1]}
    found |= {f"clip_{key}" if "similarity" in key else key: value for key, value in asdict(scores).items()}
    if path is not None:
        found["clip_direction_consistency"] = float(clip_direction_consistency(*path, cfg.clip_model).mean())
    return found


def _change(
    cfg: Any, source: Tensor, edited: Tensor, masks: Tensor | None = None, suffix: str = ""
) -> dict[str, float | None]:
    """How far the pictures after are from those before, everywhere or in a region; None where no view shows it."""
    measures = {"mse": mse, "psnr": psnr, "ssim": ssim, "tiny_distance": tiny_perceptual_distance}
    if cfg.lpips_net != "none":
        measures[f"lpips_{cfg.lpips_net}"] = partial(lpips, model=cfg.lpips_net)
    found = {}
    for name, measure in measures.items():
        values = measure(edited, source, masks)
        known = values[~values.isnan()].clamp(max=IDENTICAL_PSNR)
        found[f"{name}_to_before{suffix}"] = float(known.mean()) if len(known) else None
    return found


def _mean_psnr(images: Tensor, references: Tensor) -> float:
    return float(psnr(images, references).clamp(max=IDENTICAL_PSNR).mean())


def as_markdown(figures: dict[str, Any]) -> str:
    """The figures as a table, the protocol's note below it."""
    rows = [
        f"| {key} | {value:.4f} |" if isinstance(value, float) else f"| {key} | {'-' if value is None else value} |"
        for key, value in figures.items()
        if key != "note"
    ]
    return "\n".join(["| figure | value |", "|---|---|", *rows, "", figures.get("note", ""), ""])
