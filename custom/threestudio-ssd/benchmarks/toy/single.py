"""Whole runs of toy edits with any config, one after the other, each judged by its truth."""

import copy
import json
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ...files import write_json, write_text
from ...gaussians import Gaussians
from ...gaussians.io import load_gaussians
from ...images import save_rows
from ...metrics import mean_psnr
from ...report.edit_report import clip_model_of
from ...toyworld.capture import write_scene
from ...toyworld.edits import ToyEdit, toy_edit
from ...toyworld.judge import judge_fingerprint, judge_images
from ...toyworld.truth import make_truth, shots
from ...toyworld.views import held_out_orbit
from ..fingerprint import CANNOT_CHANGE_RESULTS, fingerprint, kept

VIEW_SIZE = 128
SUPPLIED = frozenset({
    "system.prompt_processor.source_prompt", "system.prompt_processor.target_prompt", "system.scene", "data.cameras",
    "system.mask.picture",
})  # fmt: skip
"""Dotted keys that a toy edit decides itself."""


def run_toy_edits(names: list[str], experiment: DictConfig, out: Path, scene_seed: int) -> str:
    """Run every edit that has no result yet; the table of all, which stands in ``edits.md`` as well.

    Args:
        names: Of toy edits.
        experiment: Complete config of the edit.
        out: Where scenes, pictures and ``edits.json`` go.
        scene_seed: Of the toy scenes.
    """
    made_with = fingerprint(
        experiment, without=CANNOT_CHANGE_RESULTS | SUPPLIED, scene_seed=scene_seed,
        clip_model=clip_model_of(experiment.system), judge=judge_fingerprint(),
    )  # fmt: skip

    def make(name: str) -> dict[str, Any]:
        return run_toy_edit(toy_edit(name), copy.deepcopy(experiment), out / name, scene_seed)

    rows = [kept(out / name / "row.json", made_with, partial(make, name)) for name in names]
    write_json(out / "edits.json", rows)
    write_text(out / "edits.md", as_table(rows))
    return as_table(rows)


def run_toy_edit(edit: ToyEdit, cfg: DictConfig, folder: Path, seed: int) -> dict[str, Any]:
    """Edit one toy scene with the given experiment and judge it; pictures and the row stay in ``folder``."""
    from threestudio.trainer import run_experiment

    write_scene(folder / "scene", edit.source, seed)
    words = dict(zip(("source_prompt", "target_prompt"), edit.prompts, strict=True))
    cfg.system.prompt_processor.update(words)
    cfg.system.scene = str(folder / "scene" / "scene.ply")
    cfg.data.cameras = str(folder / "scene" / "cameras.json")
    cfg.data.video_frames = 0
    cfg.system.mask.picture = str(folder / "scene" / "masks") if edit.has_mask else None
    cfg.trial_dir = str(folder / "run")
    run_experiment(cfg, ["train", "test", "export"])
    edited = load_gaussians(folder / "run" / "save" / "edited.ply")
    row = {"edit": edit.name, "attribute": edit.attribute, **words, **judge(edit, edited, folder, seed)}
    report = json.loads((folder / "run" / "save" / "report.json").read_text())
    return row | {key: report[key] for key in ("seconds", "steps", "psnr_outside", "clip_directional_similarity")}


def judge(edit: ToyEdit, edited: Gaussians, folder: Path, seed: int) -> dict[str, Any]:
    """Compare an edited splat with the truth on a held-out orbit, and write ``strip.png`` (source, edited, truth).

    Args:
        edit: What was asked for.
        edited: The result.
        folder: Where the strip goes.
        seed: Of the toy scene.
    """
    views = held_out_orbit(VIEW_SIZE)
    truth = make_truth(edit, seed, views)
    images = shots(edited, views)
    save_rows(folder / "strip.png", [truth.source, images, truth.target])
    whole = {"before": truth.source, "after": images}
    figures = {f"psnr_truth_{name}": mean_psnr(stack, truth.target) for name, stack in whole.items()}
    return {**judge_images(images, truth), **figures}


def as_table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    head = "| edit | success | kept | PSNR to truth, before → after | PSNR outside | seconds |\n"
    return f"{head}|---|---|---|---|---|---|\n" + "".join(
        f"| {row['source_prompt']} → {row['target_prompt']} | {row['success']:.2f} | {row['kept']:.2f} | "
        f"{row['psnr_truth_before']:.1f} → {row['psnr_truth_after']:.1f} | "
        f"{'-' if row['outside_psnr'] is None else format(row['outside_psnr'], '.1f')} | {row['seconds']:.0f} |\n"
        for row in rows
    )
