"""The app that runs toy edits, whose outcome is known, with any config of an edit, and judges the results."""

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

import threestudio
from threestudio.utils.base import Configurable

from ..files import write_json, write_text
from ..gaussians import Gaussians
from ..gaussians.io import load_gaussians
from ..metrics import IDENTICAL_PSNR, psnr
from ..toyworld.capture import write_scene
from ..toyworld.edits import EDITS, ToyEdit, toy_edit
from ..toyworld.truth import judge_images, make_truth, save_strip, shots
from ..toyworld.views import held_out_orbit

VIEW_SIZE = 128


@threestudio.register("toy-edits")
class ToyEditsData(Configurable):
    """The data of a benchmark or sweep: which toy edits, on which scenes."""

    @dataclass
    class Config:
        """Keys of the edits."""

        edits: list[str] = field(default_factory=lambda: list(EDITS))
        """Names of edits."""
        num_seeds: int = 3
        """Seeds of scene and noise, >= 1."""
        scene_seed: int = 3
        """The first seed's scene; decides size, yaw, sun and texture."""

    cfg: Config


@threestudio.register("app-toy-edits")
class ToyEdits(Configurable):
    """Run edits whose outcome is known and judge them; needs --config of the edit."""

    @dataclass
    class Config:
        """Keys of the comparison."""

        edits: list[str] = field(default_factory=lambda: list(EDITS))
        """Names of edits."""
        scene_seed: int = 3
        """Seed of the toy scenes."""
        out: str = "outputs/toy-edits"
        """Where scenes, pictures and ``edits.json`` go."""

    def __call__(self, experiment: DictConfig) -> int:
        """Run every edit that has no result yet."""
        out = Path(self.cfg.out)
        rows = []
        for name in self.cfg.edits:
            row_file = out / name / "row.json"
            if not row_file.exists():
                row = run_toy_edit(toy_edit(name), copy.deepcopy(experiment), out / name, self.cfg.scene_seed)
                write_json(row_file, row)
            rows.append(json.loads(row_file.read_text()))
        write_json(out / "edits.json", rows)
        write_text(out / "edits.md", as_table(rows))
        threestudio.info(f"{out / 'edits.md'}\n{as_table(rows)}")
        return 0


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
    save_strip(folder / "strip.png", [truth.source, images, truth.target])
    whole = [float(psnr(stack, truth.target).clamp(max=IDENTICAL_PSNR).mean()) for stack in (truth.source, images)]
    return {**judge_images(images, truth), "psnr_truth_before": whole[0], "psnr_truth_after": whole[1]}


def as_table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    head = "| edit | success | kept | PSNR to truth, before → after | PSNR outside | seconds |\n"
    return f"{head}|---|---|---|---|---|---|\n" + "".join(
        f"| {row['source_prompt']} → {row['target_prompt']} | {row['success']:.2f} | {row['kept']:.2f} | "
        f"{row['psnr_truth_before']:.1f} → {row['psnr_truth_after']:.1f} | "
        f"{'-' if row['outside_psnr'] is None else format(row['outside_psnr'], '.1f')} | {row['seconds']:.0f} |\n"
        for row in rows
    )
