"""Figures for any two splats and cameras, whoever made them."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..cameras import load_cameras
from ..data import SceneViews, ViewPlan
from ..data.keys import GSViewsConfig
from ..errors import ConfigError
from ..files import markdown_table, write_json, write_text
from ..host import parse_structured
from ..images import save_rows
from ..latents import load_visible
from ..masks import check_mask, find_selection, settle_mask
from ..masks.selection import describe_mask
from ..metrics import (
    IDENTICAL_PSNR,
    clip_direction_consistency,
    clip_scores,
    edit_regions,
    load_structure_model,
    lpips,
    mean_psnr,
    mse,
    psnr,
    saturation_drift,
    ssim,
    structure_distance,
    tiny_perceptual_distance,
)
from ..rendering import coverage, render_bchw
from ..scenes import Scene

GRID_VIEWS = 6
SCRIPT_VIEWS = 96
"""Orbit views that stand for the folder of renders that the released script draws from."""


def write_evaluation(cfg: Any) -> str:
    """Measure an edit and write ``evaluate.json evaluate.md views.png`` into ``cfg.out``.

    Args:
        cfg: Keys of ``EvaluateConfig``.

    Returns:
        The table and the path of the JSON file, for printing.
    """
    out, (figures, images) = Path(cfg.out), evaluate_edit(cfg)
    save_rows(out / "views.png", (stack[:GRID_VIEWS] for stack in images))
    write_json(out / "evaluate.json", figures)
    text = as_markdown(figures)
    write_text(out / "evaluate.md", text)
    return f"{text}\n{out / 'evaluate.json'}\n"


def evaluate_edit(cfg: Any) -> tuple[dict[str, Any], tuple[Float[Tensor, "c 3 h w"], Float[Tensor, "c 3 h w"]]]:
    """Figures of an edit, and the renders before and after it that they are means over.

    Args:
        cfg: Keys of ``EvaluateConfig``.

    Raises:
        ConfigError: If a splat is not named, there are too few views, or the protocol needs prompts.
    """
    _check(cfg)
    before = load_visible(cfg.before)
    after = load_visible(cfg.after, beside=before)
    plan, views = evaluation_views(cfg, before)
    background = torch.tensor(list(cfg.background))
    source, edited = (render_bchw(each, views.train, background) for each in (before, after))
    path = [render_bchw(each, views.video, background) for each in (before, after)] if len(views.video) > 1 else None
    clip_figures = _clip_figures(cfg, source, edited, path)
    measured = torch.linspace(0, len(source) - 1, min(cfg.num_views, len(source))).round().long()
    cameras, source, edited = views.train[measured], source[measured], edited[measured]
    figures = {
        "before": cfg.before, "after": cfg.after,
        "num_gaussians_before": len(before), "num_gaussians_after": len(after),
        "num_views": len(cameras), "size": list(source.shape[-2:]), **clip_figures, **_change(cfg, source, edited),
    }  # fmt: skip
    if describe_mask(cfg.mask) != "everything":
        mask = settle_mask(cfg.mask, cfg.before)
        is_selected = find_selection(mask, before, views.train, plan.capture, background).is_selected
        figures |= {"num_selected": int(is_selected.sum())}
        regions = edit_regions(coverage(before, is_selected, cameras))
        for where, masks in zip(("inside", "outside"), regions, strict=True):
            figures |= _change(cfg, source, edited, masks, f"_{where}")
    if cfg.structure_model:
        model = load_structure_model(cfg.structure_model)
        figures["structure_distance"] = float(structure_distance(edited, source, model).mean())
        figures["structure_model"] = model.label
    if cfg.truth:
        truth = render_bchw(load_visible(cfg.truth, beside=before), cameras, background)
        figures |= {
            "psnr_to_truth": mean_psnr(edited, truth), "psnr_to_truth_before": mean_psnr(source, truth),
            "ssim_to_truth": float(ssim(edited, truth).mean()),
            "saturation_drift": float(saturation_drift(edited, truth).mean()),
        }  # fmt: skip
    return figures, (source, edited)


def evaluation_views(cfg: Any, gaussians: Scene) -> tuple[ViewPlan, SceneViews]:
    """The poses: ``train`` those that figures are means over, ``video`` the path whose neighbours are compared.

    The released script draws twice from a whole folder of renders, so for it ``train`` holds every view of the capture,
    or ``SCRIPT_VIEWS`` of an orbit; the path is empty where nothing is compared on it.

    Args:
        cfg: Keys of ``EvaluateConfig``.
        gaussians: The scene before the edit.
    """
    is_paired, num_views = cfg.protocol == "paired-views", cfg.num_views
    if not is_paired:
        num_views = len(load_cameras(cfg.cameras)) if cfg.cameras else max(SCRIPT_VIEWS, num_views)
    keys = {key: cfg[key] for key in ("cameras", "world", "dataparser", "up", "size", "seed")}
    keys |= {
        "num_train_views": num_views, "test_size": cfg.size, "check_capture": False,
        "video_frames": cfg.path_frames if is_paired and cfg.target_prompt else 0,
    }  # fmt: skip
    plan = ViewPlan(parse_structured(GSViewsConfig, keys))
    return plan, plan.views(gaussians, cfg.size, 2)


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
    texts, clip_model = (cfg.source_prompt, cfg.target_prompt), clip_model_for(cfg)
    scores = clip_scores(
        source, edited, *texts, clip_model, protocol=cfg.protocol, num_views=cfg.num_views,
        generator=torch.Generator().manual_seed(cfg.seed),
    )  # fmt: skip
    figures: dict[str, Any] = {"source_prompt": texts[0], "target_prompt": texts[1]}
    figures |= {f"clip_{key}" if "similarity" in key else key: value for key, value in asdict(scores).items()}
    if path is not None:
        values = clip_direction_consistency(path[0], path[1], clip_model)
        figures["clip_direction_consistency"] = float(values.mean())
    return figures


def clip_model_for(cfg: Any) -> str:
    """The CLIP of a measurement: as named, or as in the report of the run that made the second splat."""
    report = Path(cfg.after).parent / "report.json"
    if cfg.clip_model != "auto" or not report.is_file():
        return "tiny-clip" if cfg.clip_model == "auto" else cfg.clip_model
    facts = json.loads(report.read_text(encoding="utf-8"))
    return facts.get("clip_model", "tiny-clip") if isinstance(facts, dict) else "tiny-clip"


def _change(
    cfg: Any, source: Tensor, edited: Tensor, masks: Tensor | None = None, suffix: str = ""
) -> dict[str, float | None]:
    """How far the images after are from those before, everywhere or in a region; None where no view shows it."""
    measures = {"mse": mse, "psnr": psnr, "ssim": ssim, "tiny_distance": tiny_perceptual_distance}
    if cfg.lpips_net != "none":
        measures[f"lpips_{cfg.lpips_net}"] = partial(lpips, model=cfg.lpips_net)
    figures: dict[str, float | None] = {}
    for name, measure in measures.items():
        values = measure(edited, source, masks)
        values = values[~values.isnan()].clamp(max=IDENTICAL_PSNR)
        figures[f"{name}_to_before{suffix}"] = float(values.mean()) if len(values) else None
    return figures


def as_markdown(figures: dict[str, Any]) -> str:
    """The figures as a table, the protocol's note below it."""
    texts = {key: f"{value:.4f}" if isinstance(value, float) else value for key, value in figures.items()}
    rows = [(key, "-" if text is None else text) for key, text in texts.items() if key != "note"]
    return "\n".join([markdown_table(("figure", "value"), rows), "", figures.get("note", ""), ""])
