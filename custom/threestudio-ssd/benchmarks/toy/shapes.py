"""Changes of shape as users make them: a scene on disk, a mask traced from pictures, the edit, judged by truth."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from omegaconf import DictConfig, OmegaConf

from ...data import ViewPlan
from ...diffusion import Counters
from ...edits.scene_edit import SceneEdit
from ...errors import ConfigError
from ...gaussians import Gaussians
from ...refits.scene_refit import SceneRefit
from ...rendering import coverage, render_bchw
from ...report.edit_report import measure_change
from ...toyworld.capture import write_scene
from ...toyworld.silhouettes import shape_figures
from ...toyworld.truth import shots, turned_truth
from ...toyworld.views import held_out_orbit
from .trials import HELD_OUT_SIZE, Outcome, Trial

OUTLINE_SIZE = 128
"""Side of the views that judge outlines, pixels."""


def run_shape(trial: Trial, cfg: DictConfig) -> Outcome:
    """Make one edit and look at the result.

    Args:
        trial: What to edit.
        cfg: Experiment of a scene edit or of a refit; scene, cameras, prompts, seed and mask are the trial's own.

    Raises:
        ConfigError: If the experiment is of another system.
    """
    with TemporaryDirectory() as folder:
        write_scene(Path(folder), trial.edit.source, trial.scene_seed)
        job, counters = _open(trial, cfg, Path(folder))
    edit, begin = job.edit, time.monotonic()
    edit.prepare()
    counters.reset()
    edit.make_steps()
    seconds = time.monotonic() - begin
    result, views = job.editable.result().to("cpu"), held_out_orbit(HELD_OUT_SIZE)
    images = shots(result, views)
    truth = turned_truth(images, trial.edit, trial.scene_seed, views)
    outlines = held_out_orbit(OUTLINE_SIZE)
    figures = shape_figures(result, trial.edit, trial.scene_seed, outlines, truth.turn_deg)
    return Outcome(
        trial, truth, images,
        noise_predictions=counters.rows, encodes=counters.encoded_images, seconds=seconds,
        figures={**figures, "rest_psnr": _rest_psnr(job, result)},
    )  # fmt: skip


def _open(trial: Trial, cfg: DictConfig, folder: Path) -> tuple[SceneRefit | SceneEdit, Counters]:
    """The edit laid out on a scene in a folder, and what counts its predictions."""
    cfg = cfg.copy()
    source, target = trial.edit.prompts
    own = {
        "system.scene": str(folder / "scene.ply"), "data.cameras": str(folder / "cameras.json"),
        "system.mask.picture": str(folder / "masks"), "system.seed": trial.seed, "data.seed": trial.seed,
    }  # fmt: skip
    words = {"source_prompt": source, "target_prompt": target}
    within = "system" if cfg.system_type == "idu-gs-system" else "system.prompt_processor"
    for key, value in {**own, **{f"{within}.{name}": text for name, text in words.items()}}.items():
        OmegaConf.update(cfg, key, value)
    if cfg.system_type == "idu-gs-system":
        job = SceneRefit(cfg.system)
        counters = job.editor.network.counters
    elif cfg.system_type == "ssd-gs-system":
        job = SceneEdit(cfg.system)
        counters = job.guidance.backbone.counters
    else:
        raise ConfigError(
            what=f"a method of shapes is of {cfg.system_type}", expected="idu-gs-system or ssd-gs-system",
            fix="name configs/shape-gs.yaml, configs/ssd-gs.yaml, or one that includes them",
        )  # fmt: skip
    job.open(ViewPlan(cfg.data))
    return job, counters


@torch.no_grad()
def _rest_psnr(job: SceneRefit | SceneEdit, result: Gaussians) -> float | None:
    """PSNR in dB of what neither the old nor the new object covers, to the source."""
    views = job.views.test.resized(HELD_OUT_SIZE, HELD_OUT_SIZE)
    renders = [render_bchw(each, views, job.background).permute(0, 2, 3, 1) for each in (job.scene_before(), result)]
    return measure_change(coverage(*job.selection_in_view(), views), *renders)["psnr_outside"]
