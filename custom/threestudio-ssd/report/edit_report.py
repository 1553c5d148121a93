"""What an edit did: pictures before and after, numbers, one JSON file and one page."""

import importlib.metadata
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from threestudio.utils.misc import cleanup
from threestudio.utils.saving import SaverMixin

from ..cameras import Cameras
from ..errors import ConfigError
from ..guidance import EditGuidance
from ..metrics import (
    ColorReading,
    check_clip,
    clip_beside,
    clip_directional_similarity,
    clip_similarity,
    edit_regions,
    mean_psnr,
    read_clip,
)  # fmt: skip
from ..platforms import peak_memory_of_process
from ..rendering import coverage, render_each
from ..scenes import Scene
from .answers import HALF_DONE, VISIBLE_CHANGE
from .run_page import VIDEO, save_page, views_of

NOTEWORTHY_FALL = 0.005
"""CLIP similarities that fall by less have stayed the same."""
RUNAWAY_SPECKLE, RUNAWAY_SHARE = 0.03, 0.05
"""Colours ran away when neighbours differ by so much more than before, or so many more are out of range."""
PACKAGES = ("torch", "gsplat", "diffusers", "transformers", "pytorch-lightning", "numba")


@dataclass(frozen=True)
class EditReport:
    """What is compared: the two scenes, held-out cameras of one size, and the two prompts.

    ``selection_in_view`` is a scene, and which of its Gaussians say where images may change: as a rule the source and
    the selection. ``num_selected`` is how many Gaussians could change.
    """

    source: Scene
    edited: Scene
    selection_in_view: tuple[Scene, Bool[Tensor, "n"]]
    num_selected: int
    cameras: Cameras
    background: Float[Tensor, "3"]
    source_prompt: str
    target_prompt: str
    clip_model: str
    offline: bool = False
    """Never ask the hub for the CLIP."""


def make_report(edit: EditReport, saver: SaverMixin, facts: dict[str, Any]) -> dict[str, Any]:
    """Render held-out views, measure, and write ``grid.png``, ``report.json`` and ``report.html``.

    The page shows what is there by now of the video, the progress and the log.

    Args:
        edit: What is compared.
        saver: Where the files go.
        facts: More keys of the report: model, steps, seconds, ...

    Returns:
        The content of ``report.json``.
    """
    before = torch.stack(list(render_each(edit.source, edit.cameras, edit.background)))
    after = torch.stack(list(render_each(edit.edited, edit.cameras, edit.background)))
    covered, words = coverage(*edit.selection_in_view, edit.cameras), (edit.source_prompt, edit.target_prompt)
    report = {
        "source_prompt": edit.source_prompt, "target_prompt": edit.target_prompt, **facts,
        "num_gaussians_before": len(edit.source), "num_gaussians_after": len(edit.edited),
        "num_selected": edit.num_selected,
        **measure_change(covered, before, after),
        **clip_scores_of_edit(
            before.permute(0, 3, 1, 2), after.permute(0, 3, 1, 2), words, edit.clip_model, edit.offline
        ),
        "clip_model": edit.clip_model, "platform": platform.platform(),
    }  # fmt: skip
    report["verdicts"] = verdicts_of(report)
    saver.save_image_grid("grid.png", [grid_row(before), grid_row(after)])
    saver.save_json("report.json", report)
    save_page(Path(saver.get_save_dir()), words, views_of(edit.cameras.names, before, after, covered))
    return report


def measure_change(
    covered: Float[Tensor, "c h w"], before: Float[Tensor, "c h w 3"], after: Float[Tensor, "c h w 3"]
) -> dict[str, Any]:
    """Mean absolute change inside and outside the selection's pixels, and PSNR outside; None where there are none.

    Args:
        covered: Share of each pixel that the selection made up before the edit (``coverage``).
        before: Renders of the source, [0, 1].
        after: Renders of the result.
    """
    is_inside, is_outside = edit_regions(covered)
    change = (after - before).abs().mean(dim=-1)
    inside = float(change[is_inside].mean()) if is_inside.any() else None
    has_outside = bool(is_outside.any())
    return {
        "change_inside": inside,
        "changed_share": float((change[is_inside] > VISIBLE_CHANGE).float().mean()) if is_inside.any() else None,
        "change_outside": float(change[is_outside].mean()) if has_outside else None,
        "psnr_outside": _mean_psnr(before, after, is_outside) if has_outside else None,
        "changed_visibly": inside is not None and inside > VISIBLE_CHANGE,
    }


def verdicts_of(report: Mapping[str, Any]) -> list[str]:
    """What a user must be told of a result that may not be what was asked for; empty for one that may.

    A small CLIP is wrong about the direction of some right edits, so an edit has moved away from its prompt only where
    both of its figures say so.

    Args:
        report: With ``changed_visibly``, ``changed_share`` and, of an edit by words, ``clip_directional_similarity``,
            ``clip_similarity`` and ``clip_similarity_before``.
    """
    if not report["changed_visibly"]:
        return ["The edit changed nothing visible."]
    verdicts, direction, share = [], report.get("clip_directional_similarity"), report["changed_share"]
    if direction is not None and direction < 0:
        before, after = report["clip_similarity_before"], report["clip_similarity"]
        if after < before - NOTEWORTHY_FALL:
            verdicts.append(
                f"The edit moved away from the prompt: its directional CLIP similarity is {direction:.3f}, and the "
                f"prompt fits the result worse than the source, {after:.3f} after {before:.3f}."
            )
    if share is not None and share < HALF_DONE:
        verdicts.append(f"The edit is half done: {share:.0%} of what the selection shows changed visibly.")
    return verdicts


def distillation_facts(guidance: EditGuidance) -> dict[str, Any]:
    """What a report says of the model, the score, and what they cost so far."""
    counters = guidance.backbone.counters
    costs = {"network_calls": counters.network_calls, "noise_predictions": counters.rows, "encodes": counters.encodes}
    return {"score": dict(guidance.cfg.score), **guidance.backbone.provenance, **costs}


def color_facts(before: ColorReading, after: ColorReading) -> dict[str, float | None]:
    """What a report says of the colours of the selection: each figure, and what it was before."""
    was = {f"{name}_before": value for name, value in before._asdict().items()}
    return {**after._asdict(), **was}


def runaway_colors(before: ColorReading, after: ColorReading) -> str | None:
    """What to tell someone whose colours ran away; None if they did not."""
    places = {"speckle_visible": "in places that are seen", "speckle_hidden": "in places hardly seen"}
    for name, where in places.items():
        was, now = getattr(before, name), getattr(after, name)
        if was is not None and now is not None and now > was + RUNAWAY_SPECKLE:
            return f"{where}: neighbours differ by {now:.3f} there, {was:.3f} before"
    if after.out_of_range is not None and after.out_of_range > (before.out_of_range or 0.0) + RUNAWAY_SHARE:
        return f"beyond what can be shown: {after.out_of_range:.0%} of them are out of [0, 1]"
    return None


def grid_row(images: Iterable[Float[Tensor, "_ _ 3"]]) -> list[dict[str, Any]]:
    """Pictures in [0, 1] as one row of the saver's grid."""
    return [{"type": "rgb", "img": image.cpu(), "kwargs": {}} for image in images]


def save_before_after(
    saver: SaverMixin, before: Scene, after: Scene, cameras: Cameras, background: Float[Tensor, "3"]
) -> None:
    """Write the video ``before_after.mp4``, the two scenes side by side; nothing where there are no cameras."""
    if len(cameras) == 0:
        return
    pairs = zip(*(render_each(scene, cameras, background) for scene in (before, after)), strict=True)
    saver.save_video(VIDEO, (torch.cat(pair, dim=1).cpu() for pair in pairs))


def package_versions() -> dict[str, str | None]:
    """Versions of the packages that decide a result; None for one that is not installed."""
    return {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def clip_model_of(cfg: Any) -> str:
    """The CLIP of an edit's report, by ``clip_model`` and the model that edits: of the guidance, or of the editor."""
    if cfg.clip_model != "auto":
        return cfg.clip_model
    return clip_beside(model_of(cfg))


def model_of(cfg: Any) -> str:
    """The diffusion model that edits, by the keys of a system: of the guidance, or of the editor."""
    return (cfg.guidance if "guidance" in cfg else cfg.editing).get("model", "")


def check_report_model(clip_model: str, offline: bool) -> None:
    """Find out before the first step whether the report's CLIP is to be had; the report itself comes after the last.

    Args:
        clip_model: As in ``load_clip``.
        offline: Whether to look only into the local hub cache.

    Raises:
        ConfigError: If it cannot be loaded.
    """
    try:
        check_clip(clip_model, offline)
    except ConfigError as error:
        raise ConfigError(
            what=f"system.clip_model is {clip_model}: {error.what}",
            expected=error.expected,
            fix="set system.clip_model=tiny-clip, or a folder, or download it once while online",
        ) from error


def clip_scores_of_edit(
    before: Float[Tensor, "b 3 h w"], after: Float[Tensor, "b 3 h w"], prompts: tuple[str, str], clip_model: str,
    offline: bool = False,
) -> dict[str, float]:  # fmt: skip
    """CLIP scores of a report, means over the pictures; the CLIP is loaded for them and let go.

    Args:
        before: Pictures of the source, [0, 1].
        after: The same views of the edit.
        prompts: Source and target prompt.
        clip_model: As in ``load_clip``.
        offline: Whether to look only into the local hub cache.
    """
    clip = read_clip(clip_model, str(before.device), offline)
    scores = {
        "clip_similarity": clip_similarity(after, prompts[1], clip),
        "clip_similarity_before": clip_similarity(before, prompts[1], clip),
        "clip_directional_similarity": clip_directional_similarity(before, after, *prompts, clip),
    }
    del clip
    cleanup()
    return {name: float(values.mean()) for name, values in scores.items()}


def peak_memory(device: torch.device) -> int:
    """Most memory used so far: of the GPU where one is used, else of the process, bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_memory_of_process()


def _mean_psnr(before: Tensor, after: Tensor, where: Tensor) -> float:
    rows = where.flatten(1).any(dim=1)
    return mean_psnr(after[rows].permute(0, 3, 1, 2), before[rows].permute(0, 3, 1, 2), where[rows])
