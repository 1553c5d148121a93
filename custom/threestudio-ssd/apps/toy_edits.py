"""Edits toy scenes whose outcome is known, and judges the results against it: in numbers and in pictures."""

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

import threestudio
from threestudio.utils.base import Configurable

from ..cameras import Cameras
from ..gaussians import Gaussians
from ..gaussians.io import load_gaussians
from ..metrics import psnr
from ..rendering import coverage, render_each
from ..toyworld import ATTRIBUTES, PART_OBJECT, Attributes, build_scene, orbit_camera
from ..toyworld.captions import describe
from ..toyworld.classifier import load_classifier
from ..toyworld.splat import to_cameras, to_gaussians
from .make_toy_scene import write_scene

VIEW_SIZE, NUM_VIEWS = 128, 8
OBJECT_ATTRIBUTES = ("object", "color", "pattern")
EDITS = {
    "blue-ball": ("red plain ball grass day", "color=blue"),
    "red-car": ("green plain car sand day", "color=red"),
    "purple-mushroom": ("yellow plain mushroom snow day", "color=purple"),
    "striped-cylinder": ("orange plain cylinder grass day", "pattern=striped"),
    "dotted-cone": ("purple plain cone wood day", "pattern=dotted"),
    "snow": ("red plain snowman grass day", "ground=snow"),
    "sand": ("blue plain house snow day", "ground=sand"),
    "night": ("white plain donut sand day", "time=night"),
    "sunset": ("green plain tree grass day", "time=sunset"),
    "cube": ("red plain ball grass day", "object=cube"),
}
"""Name -> (source scene, the attribute that the target changes)."""


@dataclass(frozen=True)
class ToyEdit:
    """One edit with known outcome."""

    name: str
    source: Attributes
    target: Attributes
    attribute: str

    @property
    def has_mask(self) -> bool:
        """Edits of the object are masked to it; edits of ground and light are not masked at all."""
        return self.attribute in OBJECT_ATTRIBUTES


def toy_edit(name: str) -> ToyEdit:
    """The edit of this name in ``EDITS``."""
    words, change = EDITS[name]
    color, pattern, thing, ground, time = words.split()
    source = Attributes(thing, color, pattern, ground, time)
    attribute, value = change.split("=")
    return ToyEdit(name, source, source._replace(**{attribute: value}), attribute)


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
        out.mkdir(parents=True, exist_ok=True)
        rows = []
        for name in self.cfg.edits:
            row_file = out / name / "row.json"
            if not row_file.exists():
                row = run_toy_edit(toy_edit(name), copy.deepcopy(experiment), out / name, self.cfg.scene_seed)
                row_file.write_text(json.dumps(row, indent=1))
            rows.append(json.loads(row_file.read_text()))
        (out / "edits.json").write_text(json.dumps(rows, indent=1))
        (out / "edits.md").write_text(as_table(rows))
        threestudio.info(f"{out / 'edits.md'}\n{as_table(rows)}")
        return 0


def run_toy_edit(edit: ToyEdit, cfg: DictConfig, folder: Path, seed: int) -> dict[str, Any]:
    """Edit one toy scene with the given experiment and judge it; pictures and the row stay in ``folder``."""
    from threestudio.trainer import run_experiment

    write_scene(folder / "scene", edit.source, seed)
    words = {"source_prompt": describe(edit.source), "target_prompt": describe(edit.target)}
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
        folder: Where the picture goes.
        seed: Of the toy scene.
    """
    scenes = [build_scene(edit.source, seed), build_scene(edit.target, seed)]
    source, truth = (to_gaussians(scene) for scene in scenes)
    views = held_out_orbit()
    shots = {name: _shots(scene, views) for name, scene in (("source", source), ("edited", edited), ("truth", truth))}
    before, after = psnr(shots["source"], shots["truth"]), psnr(shots["edited"], shots["truth"])
    outside = coverage(source, torch.from_numpy(scenes[0].parts == PART_OBJECT), views) < 0.02
    readings = load_classifier()(shots["edited"])
    hits = {
        name: float(np.mean([word == getattr(edit.target, name) for word in readings[name].words])) for name in ATTRIBUTES
    }
    rows = [torch.cat(list(shots[name].permute(0, 2, 3, 1)), dim=1) for name in shots]
    picture = (torch.cat(rows).clamp(0, 1) * 255).byte().numpy()
    Image.fromarray(picture).save(folder / "strip.png")
    return {
        "hit": hits[edit.attribute],
        "others_kept": float(np.mean([hits[name] for name in ATTRIBUTES if name != edit.attribute])),
        "psnr_truth_before": float(before.mean()),
        "psnr_truth_after": float(after.mean()),
        "psnr_outside_object": float(psnr(shots["edited"], shots["source"], outside).clamp(max=100).mean()),
    }


def held_out_orbit() -> Cameras:
    """Eight views none of which is in the training capture: even azimuths, elevations 12 and 32 degrees."""
    cameras = [orbit_camera(45 * index + 22.5, (12, 32)[index % 2]) for index in range(NUM_VIEWS)]
    return to_cameras(cameras, VIEW_SIZE, VIEW_SIZE)


def as_table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    head = "| edit | hit | others kept | PSNR to truth, before → after | PSNR outside | seconds |\n|---|---|---|---|---|---|\n"
    return head + "".join(
        f"| {row['source_prompt']} → {row['target_prompt']} | {row['hit']:.2f} | {row['others_kept']:.2f} | "
        f"{row['psnr_truth_before']:.1f} → {row['psnr_truth_after']:.1f} | "
        f"{row['psnr_outside_object']:.1f} | {row['seconds']:.0f} |\n"
        for row in rows
    )


def _shots(gaussians: Gaussians, views: Cameras) -> Float[Tensor, "c 3 h w"]:
    images: list[Tensor] = list(render_each(gaussians, views, torch.zeros(3)))
    return torch.stack(images).permute(0, 3, 1, 2)
