"""Whole runs of toy edits with any config, one after the other, each judged by its truth."""

import copy
import json
from functools import partial
from itertools import groupby, product
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
from ...toyworld.judge import judge_fingerprint, judge_images, luminance_slope
from ...toyworld.truth import make_truth, shots
from ...toyworld.views import held_out_orbit
from ..fingerprint import CANNOT_CHANGE_RESULTS, fingerprint, kept

VIEW_SIZE = 128
SUPPLIED = frozenset({
    "system.prompt_processor.source_prompt", "system.prompt_processor.target_prompt", "system.scene", "data.cameras",
    "system.mask.picture",
})  # fmt: skip
"""Dotted keys that a toy edit decides itself."""


def run_toy_edits(names: list[str], experiment: DictConfig, out: Path, scene_seed: int, num_seeds: int = 1) -> str:
    """Run every edit that has no result yet; the table of all, which stands in ``edits.md`` as well.

    Args:
        names: Of toy edits.
        experiment: Complete config of the edit.
        out: Where scenes, pictures and ``edits.json`` go.
        scene_seed: Of the toy scenes.
        num_seeds: Runs of each edit; every one adds 1 to the seed of the scene and to that of the run.
    """
    rows = []
    for name, run in product(names, range(num_seeds)):
        cfg = copy.deepcopy(experiment)
        cfg.seed = experiment.seed + run
        folder = out / (name if num_seeds == 1 else f"{name}-{run}")
        made_with = fingerprint(
            cfg, without=CANNOT_CHANGE_RESULTS | SUPPLIED, scene_seed=scene_seed + run,
            clip_model=clip_model_of(cfg.system), judge=judge_fingerprint(),
        )  # fmt: skip
        make = partial(run_toy_edit, toy_edit(name), cfg, folder, scene_seed + run)
        rows.append(kept(folder / "row.json", made_with, make))
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
    return {**judge_images(images, truth), "slope": luminance_slope(images, truth), **figures}


def as_table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table with a row for each edit; several seeds of it stand behind each other."""
    head = "| edit | success | kept | PSNR to truth, before → after | inside | slope | PSNR outside | seconds |\n"
    table = [head, "|---" * 8, "|\n"]
    for edit, group in groupby(rows, key=lambda row: (row["source_prompt"], row["target_prompt"])):
        runs = list(group)

        def each(key: str, digits: int, runs: list[dict[str, Any]] = runs) -> str:
            values = [run[key] for run in runs]
            return ", ".join("-" if value is None else format(value, f".{digits}f") for value in values)

        way = f"{each('psnr_truth_before', 1)} → {each('psnr_truth_after', 1)}"
        cells = [
            " → ".join(edit), each("success", 2), each("kept", 2), way, each("truth_psnr", 1), each("slope", 2),
            each("outside_psnr", 1), each("seconds", 0),
        ]  # fmt: skip
        table.append(f"| {' | '.join(cells)} |\n")
    return "".join(table)
