"""Whole edits of toy scenes, one at a time, by the objects of a run: any system that edits a scene by words."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

import threestudio

from ...cameras import Cameras
from ...data import ViewPlan
from ...editors import build_editor
from ...edits.scene_edit import SceneEdit
from ...errors import ConfigError
from ...gaussians.io import save_gaussians
from ...guidance import build_score
from ...masks import MaskConfig
from ...refits.scene_refit import SceneRefit
from ...toyworld import PART_OBJECT, build_scene
from ...toyworld.splat import to_gaussians
from ...toyworld.truth import make_truth, shots
from ...toyworld.views import capture_views, held_out_orbit
from .trials import HELD_OUT_SIZE, Outcome, Trial, trial_prompts


def reads_instruction(system: DictConfig) -> bool:
    """Whether the target prompt of a system is an instruction, as for InstructPix2Pix."""
    if "editing" in system:
        return build_editor(system.editing.editor).reads_instruction_of(system.editing)
    return any(branch.image == "src" for branch in build_score(system.guidance.score).branches)


def open_edit(
    trial: Trial, cfg: DictConfig, own: Mapping[str, Any], capture: Cameras | None = None
) -> SceneRefit | SceneEdit:
    """An edit of a toy scene, laid out as in a run.

    Args:
        trial: Its prompts and its seed take the place of the experiment's.
        cfg: Complete experiment of a system that edits a scene by words.
        own: More dotted keys that take the place of the experiment's, such as ``system.scene``.
        capture: Cameras of the capture; None: those that the experiment names.

    Raises:
        ConfigError: If the experiment is of another system.
    """
    edit_type = getattr(threestudio.find(cfg.system_type), "edit_type", None)
    if edit_type is None:
        raise ConfigError(
            what=f"a method is of {cfg.system_type}", expected="a system that edits a scene by words",
            fix="name configs/ssd-gs.yaml, configs/shape-gs.yaml, or a config that includes one of them",
        )  # fmt: skip
    source, target = trial_prompts(trial, reads_instruction(cfg.system))
    within = "system.prompt_processor" if "prompt_processor" in cfg.system else "system"
    words = {f"{within}.source_prompt": source, f"{within}.target_prompt": target}
    cfg = cfg.copy()
    for key, value in {**words, "system.seed": trial.seed, "data.seed": trial.seed, **own}.items():
        OmegaConf.update(cfg, key, value, merge=False)
    job = edit_type(cfg.system)
    job.open(ViewPlan(cfg.data, capture))
    return job


def make_edit(job: SceneRefit | SceneEdit) -> float:
    """Make all steps of an edit that was laid out; the seconds it took."""
    begin = time.monotonic()
    job.edit.prepare()
    job.counters.reset()
    job.edit.make_steps()
    return time.monotonic() - begin


def run_whole(trial: Trial, cfg: DictConfig, *, use_masks: bool = False, num_views: int = 24) -> Outcome:
    """Make one edit by itself, of the scene and from the views that trials side by side have, and look at the result.

    Args:
        trial: What to edit.
        cfg: Complete experiment; scene, cameras, prompts, seed and mask are the trial's own.
        use_masks: Whether edits of the object are masked to it.
        num_views: Views of the capture.

    Raises:
        ConfigError: If the experiment is of another system.
    """
    toy = build_scene(trial.edit.source, trial.scene_seed)
    with TemporaryDirectory() as folder:
        scene, saved = Path(folder) / "scene.ply", Path(folder) / "selection.npy"
        save_gaussians(to_gaussians(toy), scene)
        np.save(saved, toy.parts == PART_OBJECT)
        mask = MaskConfig(saved=str(saved) if use_masks and trial.edit.has_mask else None)
        capture = capture_views(num_views, HELD_OUT_SIZE)
        job = open_edit(trial, cfg, {"system.scene": str(scene), "system.mask": asdict(mask)}, capture)
    seconds, views = make_edit(job), held_out_orbit(HELD_OUT_SIZE)
    return Outcome(
        trial, make_truth(trial.edit, trial.scene_seed, views), shots(job.editable.result().to("cpu"), views),
        noise_predictions=job.counters.rows, encodes=job.counters.encoded_images, seconds=seconds,
    )  # fmt: skip
