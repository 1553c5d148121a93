"""Takes objects out of toy scenes, or puts them in, and judges the result by the scene the world would have made."""

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

import threestudio
from threestudio.utils.base import Configurable

from ..cameras import Cameras
from ..errors import ConfigError
from ..gaussians import Gaussians
from ..gaussians.io import load_gaussians, save_gaussians
from ..masks import visible_weights
from ..metrics import IDENTICAL_PSNR, psnr
from ..rendering import coverage, render_each
from ..toyworld import PART_OBJECT, Attributes, build_scene, orbit_camera, sample_camera
from ..toyworld.captions import describe
from ..toyworld.classifier import load_classifier
from ..toyworld.splat import save_cameras_json, to_cameras, to_gaussians

NUM_CAMERAS, NUM_MASKS, SIZE, NUM_VIEWS = 48, 12, 128, 8
CAMERA_SEED = 78
SEEN = 0.05
"""Gaussians with less than this share of the median visible weight are in no capture."""
BOX_MARGIN = 0.08
"""Space around the true object in the box that a new one goes into, world units."""
KINDS = {"gs-delete-system": "delete", "gs-add-system": "add"}


@threestudio.register("app-toy-objects")
class ToyObjects(Configurable):
    """Remove or add objects of toy scenes and judge the result; needs --config of delete-gs or add-gs."""

    @dataclass
    class Config:
        """Keys of the comparison."""

        scenes: list[str] = field(
            default_factory=lambda: [
                "red plain ball grass day",
                "green plain car sand day",
                "blue plain house snow day",
            ]
        )
        """Object scenes, each as colour, pattern, object, ground, time of day."""
        scene_seed: int = 3
        """Seed of the toy scenes."""
        out: str = "outputs/toy-objects"
        """Where scenes, pictures and the table go."""

    def __call__(self, experiment: DictConfig) -> int:
        """Run every scene that has no result yet."""
        kind = KINDS.get(experiment.system_type)
        if kind is None:
            raise ConfigError(
                what=f"--run toy-objects was given system_type {experiment.system_type}",
                expected="an experiment that removes or adds an object",
                fix="use --config configs/delete-gs.yaml or configs/add-gs.yaml",
            )
        rows = []
        for words in self.cfg.scenes:
            folder = Path(self.cfg.out) / kind / words.replace(" ", "-")
            if not (folder / "row.json").exists():
                row = run_toy_object(kind, attributes_of(words), copy.deepcopy(experiment), folder, self.cfg.scene_seed)
                (folder / "row.json").write_text(json.dumps(row, indent=1))
            rows.append(json.loads((folder / "row.json").read_text()))
        (Path(self.cfg.out) / f"{kind}.md").write_text(as_table(rows))
        threestudio.info(f"{kind}\n{as_table(rows)}")
        return 0


def attributes_of(words: str) -> Attributes:
    """A scene from its five words: colour, pattern, object, ground, time of day."""
    color, pattern, thing, ground, time = words.split()
    return Attributes(thing, color, pattern, ground, time)


def run_toy_object(kind: str, attributes: Attributes, cfg: DictConfig, folder: Path, seed: int) -> dict[str, Any]:
    """Remove or add one object with the given experiment and judge it.

    Args:
        kind: ``delete`` or ``add``.
        attributes: The scene with its object.
        cfg: The experiment; changed.
        folder: Where everything goes.
        seed: Of the toy scene.
    """
    from threestudio.trainer import run_experiment

    scene, empty = build_scene(attributes, seed), to_gaussians(build_scene(attributes, seed, has_object=False))
    whole, is_object = to_gaussians(scene), torch.from_numpy(scene.parts == PART_OBJECT)
    if kind == "delete":
        write_capture(whole, is_object, folder)
    else:
        write_capture(empty, torch.zeros(len(empty), dtype=torch.bool), folder)
    cfg.system.scene, cfg.data.cameras = str(folder / "scene.ply"), str(folder / "cameras.json")
    cfg.data.video_frames, cfg.trial_dir = 0, str(folder / "run")
    cfg.system.mask.picture = str(folder / "masks") if kind == "delete" else None
    if kind == "add":
        ours = whole.means[is_object]
        cfg.system.box = [*(ours.amin(0) - BOX_MARGIN).tolist(), *(ours.amax(0) + BOX_MARGIN).tolist()]
        cfg.system.prompt_processor.target_prompt = describe(attributes)
    run_experiment(cfg, ["train", "test", "export"])
    result = load_gaussians(folder / "run" / "save" / "edited.ply")
    start = load_gaussians(folder / "scene.ply")
    if kind == "delete":  # what removal alone gives, by the very selection of the run
        start = start.select(~torch.from_numpy(np.load(folder / "run" / "save" / "selection.npy")))
    truth = empty if kind == "delete" else whole
    seconds = json.loads((folder / "run" / "save" / "report.json").read_text())["seconds"]
    row = {"scene": describe(attributes), "kind": kind, "seconds": seconds}
    row |= judge(start, result, truth, (whole, is_object), folder)
    if kind == "add":
        readings = load_classifier()(_shots(result, held_out_orbit()))
        row |= {
            name: float(np.mean([word == getattr(attributes, name) for word in readings[name].words]))
            for name in ("object", "color")
        }
    return row


def write_capture(scene: Gaussians, is_object: Bool[Tensor, "n"], folder: Path) -> None:
    """``scene.ply cameras.json masks/`` as a capture would have them: what no camera sees is not there.

    Args:
        scene: The scene as the world makes it.
        is_object: Which Gaussians are the object; without any there are no masks.
        folder: Where the files go.
    """
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(CAMERA_SEED)
    cameras = to_cameras([sample_camera(rng) for _ in range(NUM_CAMERAS)], SIZE, SIZE)
    _, seen = visible_weights(scene, cameras, torch.ones(NUM_CAMERAS, SIZE, SIZE))
    is_kept = seen > SEEN * seen.median()
    scene, is_object = scene.select(is_kept), is_object[is_kept]
    save_gaussians(scene, folder / "scene.ply")
    save_cameras_json(cameras, folder / "cameras.json")
    if is_object.any():
        some = cameras[torch.arange(0, NUM_CAMERAS, NUM_CAMERAS // NUM_MASKS)]
        for name, mask in zip(some.names, coverage(scene, is_object, some), strict=True):
            Image.fromarray((mask.numpy() > 0.5).astype(np.uint8) * 255).save(folder / "masks" / f"{name}.png")


def judge(
    start: Gaussians, result: Gaussians, truth: Gaussians, with_object: tuple[Gaussians, Tensor], folder: Path
) -> dict[str, float]:
    """PSNR to the truth on held-out views, where the object is or was and elsewhere; writes ``strip.png``.

    Args:
        start: What the result is compared with: nothing added, or the object merely removed.
        result: What the run made.
        truth: What the world would have made.
        with_object: The scene with the object, and which of its Gaussians are the object.
        folder: Where the picture goes.
    """
    views = held_out_orbit()
    shots = {name: _shots(scene, views) for name, scene in (("start", start), ("result", result), ("truth", truth))}
    shown = coverage(*with_object, views)
    row = {}
    for place, where in (("object", shown > 0.5), ("elsewhere", shown < 0.02)):
        for name in ("start", "result"):
            ratios = psnr(shots[name], shots["truth"], where)
            row[f"psnr_{place}_{name}"] = float(ratios.clamp(max=IDENTICAL_PSNR).mean())
    picture = torch.cat([torch.cat(list(images.permute(0, 2, 3, 1)), dim=1) for images in shots.values()])
    Image.fromarray((picture.clamp(0, 1) * 255).byte().numpy()).save(folder / "strip.png")
    return row


def held_out_orbit() -> Cameras:
    """Eight views none of which is in the capture: even azimuths, elevations 12 and 32 degrees."""
    return to_cameras([orbit_camera(45 * index + 22.5, (12, 32)[index % 2]) for index in range(NUM_VIEWS)], SIZE, SIZE)


def as_table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    head = "| scene | PSNR at the object, start → result | elsewhere, start → result | reads object, colour |\n"
    return (head + "|---|---|---|---|\n") + "".join(
        f"| {row['scene']} | {row['psnr_object_start']:.1f} → {row['psnr_object_result']:.1f} | "
        f"{row['psnr_elsewhere_start']:.1f} → {row['psnr_elsewhere_result']:.1f} | "
        + (f"{row['object']:.2f}, {row['color']:.2f} |\n" if "object" in row else "– |\n")
        for row in rows
    )


def _shots(gaussians: Gaussians, views: Cameras) -> Float[Tensor, "c 3 h w"]:
    return torch.stack(list(render_each(gaussians, views, torch.zeros(3)))).permute(0, 3, 1, 2)
