"""Edits of toy scenes whose outcome is known, and the app that runs some of them with any config and judges them."""

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from PIL import Image

import threestudio
from threestudio.utils.base import Configurable

from ..errors import ConfigError
from ..gaussians import Gaussians
from ..gaussians.io import load_gaussians
from ..metrics import IDENTICAL_PSNR, psnr
from ..toyworld import Attributes
from ..toyworld.captions import describe
from ..toyworld.instructions import instructions
from .make_toy_scene import write_scene

VIEW_SIZE = 128
OBJECT_ATTRIBUTES = ("object", "color", "pattern")
NULL = "null"
"""What a null edit changes: its target is its source."""
EDITS = {
    "blue-ball": ("red plain ball grass day", "color=blue"),
    "red-car": ("green plain car sand day", "color=red"),
    "purple-mushroom": ("yellow plain mushroom snow day", "color=purple"),
    "green-cube": ("white plain cube wood day", "color=green"),
    "yellow-house": ("blue plain house grass sunset", "color=yellow"),
    "pink-donut": ("orange plain donut sand night", "color=pink"),
    "striped-cylinder": ("orange plain cylinder grass day", "pattern=striped"),
    "dotted-cone": ("purple plain cone wood day", "pattern=dotted"),
    "checkered-cube": ("red plain cube sand day", "pattern=checkered"),
    "striped-ball": ("blue plain ball snow day", "pattern=striped"),
    "plain-house": ("green striped house grass day", "pattern=plain"),
    "cube": ("red plain ball grass day", "object=cube"),
    "cone": ("yellow plain cylinder sand day", "object=cone"),
    "mushroom": ("green plain tree snow day", "object=mushroom"),
    "donut": ("pink plain cube wood day", "object=donut"),
    "snow": ("red plain snowman grass day", "ground=snow"),
    "sand": ("blue plain house snow day", "ground=sand"),
    "wood": ("yellow plain donut sand day", "ground=wood"),
    "grass": ("white plain car wood day", "ground=grass"),
    "night": ("white plain donut sand day", "time=night"),
    "sunset": ("green plain tree grass day", "time=sunset"),
    "day": ("purple plain cube snow night", "time=day"),
    "sunset-to-night": ("red plain cone sand sunset", "time=night"),
    "null-ball": ("red plain ball grass day", NULL),
    "null-mushroom": ("yellow plain mushroom snow sunset", NULL),
    "null-house": ("blue striped house wood day", NULL),
}
"""Name -> (source scene, the attribute that the target changes)."""


@dataclass(frozen=True)
class ToyEdit:
    """One edit with known outcome."""

    name: str
    source: Attributes
    target: Attributes
    attribute: str
    """The attribute that changes, or ``null``."""

    @property
    def has_mask(self) -> bool:
        """Edits of the object may be masked to it; edits of ground and light are not masked at all."""
        return self.attribute in OBJECT_ATTRIBUTES

    @property
    def prompts(self) -> tuple[str, str]:
        """Captions of source and target."""
        return describe(self.source), describe(self.target)

    @property
    def instruction(self) -> str:
        """What to tell InstructPix2Pix; for a null edit, what is there already."""
        if self.attribute == NULL:
            return f"make it {self.source.color}"
        return instructions(self.source, self.target)[0]


def toy_edit(name: str) -> ToyEdit:
    """The edit of this name in ``EDITS``.

    Raises:
        ConfigError: If there is none.
    """
    if name not in EDITS:
        raise ConfigError(what=f"there is no toy edit {name!r}", expected=f"some of {', '.join(EDITS)}", fix="choose")
    words, change = EDITS[name]
    color, pattern, thing, ground, time = words.split()
    source = Attributes(thing, color, pattern, ground, time)
    if change == NULL:
        return ToyEdit(name, source, source, NULL)
    attribute, value = change.split("=")
    return ToyEdit(name, source, source._replace(**{attribute: value}), attribute)


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
        folder: Where the picture goes.
        seed: Of the toy scene.
    """
    from .toy_truth import held_out_orbit, judge_images, make_truth, shots

    views = held_out_orbit(VIEW_SIZE)
    truth = make_truth(edit, seed, views)
    images = shots(edited, views)
    rows = [torch.cat(list(stack.permute(0, 2, 3, 1)), dim=1) for stack in (truth.source, images, truth.target)]
    picture = (torch.cat(rows).clamp(0, 1) * 255).byte().numpy()
    Image.fromarray(picture).save(folder / "strip.png")
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
