"""Whole runs of toy edits with any config, one after the other, each judged by its truth."""

import copy
import json
from functools import partial
from itertools import groupby, product
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete

from ...fields import is_field
from ...fields.io import DOCUMENT
from ...files import is_whole, write_json, write_text
from ...images import save_rows
from ...metrics import edit_regions, mean_psnr
from ...report.edit_report import clip_model_of
from ...scenes import Scene, load_scene
from ...toyworld.capture import write_scene
from ...toyworld.edits import ToyEdit, toy_edit
from ...toyworld.judge import judge_fingerprint, judge_images, luminance_slope
from ...toyworld.truth import make_truth, part_coverage, shots
from ...toyworld.views import held_out_orbit
from ...toyworld.world import PART_GROUND, PART_OBJECT, build_scene
from ..fingerprint import CANNOT_CHANGE_RESULTS, fingerprint, kept

VIEW_SIZE = 128
SUPPLIED = frozenset({
    "system.prompt_processor.source_prompt", "system.prompt_processor.target_prompt", "system.scene", "data.cameras",
    "system.mask.picture",
})  # fmt: skip
"""Dotted keys that a toy edit decides itself."""


def run_toy_edits(
    names: list[str], experiment: DictConfig, out: Path, scene_seed: int, num_seeds: int = 1, mask: str = "auto"
) -> str:
    """Run every edit that has no result yet; the table of all, which stands in ``edits.md`` as well.

    Args:
        names: Of toy edits.
        experiment: Complete config of the edit.
        out: Where scenes, pictures and ``edits.json`` go.
        scene_seed: Of the toy scenes.
        num_seeds: Toy scenes of each edit; every one adds 1 to the seed of the scene.
        mask: See ``masked_part``.
    """
    rows = []
    for name, run in product(names, range(num_seeds)):
        cfg = copy.deepcopy(experiment)
        folder = out / (name if num_seeds == 1 else f"{name}-{run}")
        made_with = fingerprint(
            cfg, without=CANNOT_CHANGE_RESULTS | SUPPLIED, scene_seed=scene_seed + run,
            clip_model=clip_model_of(cfg.system), judge=judge_fingerprint(), mask=mask,
        )  # fmt: skip
        make = partial(run_toy_edit, toy_edit(name), cfg, folder, scene_seed + run, mask)
        rows.append(kept(folder / "row.json", made_with, make))
    write_json(out / "edits.json", rows)
    write_text(out / "edits.md", as_table(rows))
    return as_table(rows)


def masked_part(edit: ToyEdit, mask: str) -> int | None:
    """Which part of the scene an edit is masked to, one of ``PART_*``; None where it has no mask.

    Args:
        edit: What is asked for.
        mask: ``object``, ``ground``, ``none``, or ``auto``: the object where the edit is about it.
    """
    if mask == "auto":
        return PART_OBJECT if edit.has_mask else None
    return {"object": PART_OBJECT, "ground": PART_GROUND, "none": None}[mask]


def run_toy_edit(edit: ToyEdit, cfg: DictConfig, folder: Path, seed: int, mask: str = "auto") -> dict[str, Any]:
    """Edit one toy scene with the given experiment and judge it; pictures and the row stay in ``folder``."""
    from threestudio.trainer import run_experiment

    part, is_of_field = masked_part(edit, mask), is_field(str(cfg.system.scene))
    write_scene(folder / "scene", edit.source, seed, PART_OBJECT if part is None else part)
    words = dict(zip(("source_prompt", "target_prompt"), edit.prompts, strict=True))
    cfg.system.prompt_processor.update(words)
    cfg.system.scene = str(_fitted_field(folder / "scene") if is_of_field else folder / "scene" / "scene.ply")
    cfg.data.cameras = str(folder / "scene" / "cameras.json")
    cfg.data.video_frames = 0
    cfg.system.mask.picture = None if part is None else str(folder / "scene" / "masks")
    cfg.trial_dir = str(folder / "run")
    run_experiment(cfg, ["train", "test", "export"])
    edited = load_scene(folder / "run" / "save" / ("edited.field" if is_of_field else "edited.ply"))
    row = {"edit": edit.name, "attribute": edit.attribute, **words, **judge(edit, edited, folder, seed, part)}
    report = json.loads((folder / "run" / "save" / "report.json").read_text())
    return row | {key: report[key] for key in ("seconds", "steps", "psnr_outside", "clip_directional_similarity")}


def _fitted_field(folder: Path) -> Path:
    """A field of a toy scene, made as that of the embedded scene is, where there is none yet; its path."""
    from threestudio.trainer import run_experiment

    path = folder / "fit" / "save" / "fitted.field"
    if not is_whole(path / DOCUMENT):  # written last
        words = [f"scene={folder / 'scene.ply'}", f"cameras={folder / 'cameras.json'}", "system.splat_steps=0"]
        cfg = complete(load_config("configs/fit-nerf-splat.yaml", cli_args=words))
        cfg.trial_dir = str(folder / "fit")
        run_experiment(cfg, ["train", "export"])
    return path


def judge(edit: ToyEdit, edited: Scene, folder: Path, seed: int, part: int | None = None) -> dict[str, Any]:
    """Compare an edited splat with the truth on a held-out orbit, and write ``strip.png`` (source, edited, truth).

    Args:
        edit: What was asked for.
        edited: The result, a splat or a radiance field.
        folder: Where the strip goes.
        seed: Of the toy scene.
        part: What the edit was masked to: the PSNR to the truth stands for it as well.
    """
    views = held_out_orbit(VIEW_SIZE)
    truth = make_truth(edit, seed, views)
    images = shots(edited, views)
    save_rows(folder / "strip.png", [truth.source, images, truth.target])
    whole = {"before": truth.source, "after": images}
    figures: dict[str, float | None] = {
        f"psnr_truth_{name}": mean_psnr(stack, truth.target) for name, stack in whole.items()
    }
    figures["psnr_truth_masked"] = None
    if part is not None:
        masked, _ = edit_regions(part_coverage(build_scene(edit.source, seed), part, views))
        figures["psnr_truth_masked"] = mean_psnr(images, truth.target, masked)
    return {**judge_images(images, truth), "slope": luminance_slope(images, truth), **figures}


def as_table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table with a row for each edit; several seeds of it stand behind each other."""
    head = (
        "edit", "success", "kept", "PSNR to truth, before → after", "inside", "in the mask", "slope", "PSNR outside",
        "seconds",
    )  # fmt: skip
    table = [f"| {' | '.join(head)} |\n", "|---" * len(head), "|\n"]
    for edit, group in groupby(rows, key=lambda row: (row["source_prompt"], row["target_prompt"])):
        runs = list(group)

        def each(key: str, digits: int, runs: list[dict[str, Any]] = runs) -> str:
            values = [run[key] for run in runs]
            return ", ".join("-" if value is None else format(value, f".{digits}f") for value in values)

        way = f"{each('psnr_truth_before', 1)} → {each('psnr_truth_after', 1)}"
        cells = [
            " → ".join(edit), each("success", 2), each("kept", 2), way, each("truth_psnr", 1),
            each("psnr_truth_masked", 1), each("slope", 2), each("outside_psnr", 1), each("seconds", 0),
        ]  # fmt: skip
        table.append(f"| {' | '.join(cells)} |\n")
    return "".join(table)
