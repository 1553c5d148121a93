"""Takes objects out of toy scenes, or puts them in, and judges the result by the scene the world would have made."""

import copy
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from ..cameras import Cameras
from ..files import markdown_table, write_text
from ..gaussians import Gaussians
from ..gaussians.io import load_gaussians
from ..images import save_rows
from ..metrics import edit_regions, mean_psnr
from ..rendering import coverage
from ..toyworld import PART_OBJECT, Attributes, build_scene
from ..toyworld.captions import describe
from ..toyworld.capture import in_capture, write_capture
from ..toyworld.classifier import classifier_checksum, load_classifier
from ..toyworld.splat import to_gaussians
from ..toyworld.truth import shots
from ..toyworld.views import capture_views, held_out_orbit
from .fingerprint import CANNOT_CHANGE_RESULTS, fingerprint, kept

NUM_CAMERAS, NUM_MASKS, SIZE, NUM_VIEWS = 48, 12, 128, 8
CAMERA_SEED = 78
BOX_MARGIN = 0.08
"""Space around the true object in the box that a new one goes into, world units."""
KINDS = {"gs-delete-system": "delete", "gs-add-system": "add"}
"""``system_type`` -> what it does with an object."""
SUPPLIED = frozenset({
    "system.scene", "data.cameras", "system.mask.picture", "system.box", "system.prompt_processor.target_prompt",
})  # fmt: skip
"""Dotted keys that a toy object decides itself."""


def run_toy_objects(kind: str, scenes: Sequence[str], cfg: DictConfig, out: Path, seed: int) -> str:
    """Run every scene that has no result yet, and write the table of all as ``<kind>.md``.

    Args:
        kind: ``delete`` or ``add``.
        scenes: The scenes with their objects, five words each, see ``Attributes.from_words``.
        cfg: The experiment.
        out: Where everything goes, a folder a scene.
        seed: Of the toy scenes.

    Returns:
        The table.
    """
    made_with = fingerprint(
        cfg, without=CANNOT_CHANGE_RESULTS | SUPPLIED, scene_seed=seed, classifier=classifier_checksum()
    )

    def make(words: str, folder: Path) -> dict[str, Any]:
        return run_toy_object(kind, Attributes.from_words(words), copy.deepcopy(cfg), folder, seed)

    folders = {words: out / kind / words.replace(" ", "-") for words in scenes}
    rows = [kept(folder / "row.json", made_with, partial(make, words, folder)) for words, folder in folders.items()]
    write_text(out / f"{kind}.md", as_table(rows))
    return as_table(rows)


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
    before, is_before = (whole, is_object) if kind == "delete" else (empty, torch.zeros(len(empty), dtype=torch.bool))
    cameras = capture_views(NUM_CAMERAS, SIZE, CAMERA_SEED)
    is_there = in_capture(before, cameras)
    write_capture(folder, before.select(is_there), is_before[is_there], cameras, mask_size=SIZE, num_masks=NUM_MASKS)
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
    views = held_out_orbit(SIZE, NUM_VIEWS)
    row |= judge((start, result, truth), (whole, is_object), views, folder)
    if kind == "add":
        readings = load_classifier()(shots(result, views))
        row |= {
            name: float(np.mean([word == getattr(attributes, name) for word in readings[name].words]))
            for name in ("object", "color")
        }
    return row


def judge(
    scenes: tuple[Gaussians, Gaussians, Gaussians], with_object: tuple[Gaussians, Tensor], views: Cameras, folder: Path
) -> dict[str, float]:
    """PSNR to the truth on held-out views, where the object is or was and elsewhere; writes ``strip.png``.

    Args:
        scenes: What the result is compared with (nothing added, or the object merely removed), what the run made,
            and what the world would have made.
        with_object: The scene with the object, and which of its Gaussians are the object.
        views: Held-out views of one size.
        folder: Where the strip goes.
    """
    start, result, truth = stacks = [shots(scene, views) for scene in scenes]
    save_rows(folder / "strip.png", stacks)
    row = {}
    for place, where in zip(("object", "elsewhere"), edit_regions(coverage(*with_object, views)), strict=True):
        for name, images in (("start", start), ("result", result)):
            row[f"psnr_{place}_{name}"] = mean_psnr(images, truth, where)
    return row


def as_table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    heads = ("scene", "PSNR at the object, start → result", "elsewhere, start → result", "reads object, colour")
    cells = []
    for row in rows:
        pairs = [f"{row[f'psnr_{at}_start']:.1f} → {row[f'psnr_{at}_result']:.1f}" for at in ("object", "elsewhere")]
        cells.append((row["scene"], *pairs, f"{row['object']:.2f}, {row['color']:.2f}" if "object" in row else "–"))
    return markdown_table(heads, cells) + "\n"
