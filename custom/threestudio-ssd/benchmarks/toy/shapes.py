"""Changes of shape as users make them: a scene on disk, a mask traced from pictures, the edit, judged by truth."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from omegaconf import DictConfig

from ...edits.scene_edit import SceneEdit
from ...errors import ConfigError
from ...gaussians import Gaussians
from ...metrics import view_agreement
from ...refits.editing import OPAQUE
from ...refits.scene_refit import SceneRefit
from ...rendering import coverage, render_bchw, render_depths
from ...report.edit_report import measure_change
from ...toyworld import build_scene
from ...toyworld.capture import write_scene
from ...toyworld.silhouettes import shape_figures
from ...toyworld.splat import to_gaussians
from ...toyworld.truth import make_truth, shots, turned_truth
from ...toyworld.views import held_out_orbit
from .trials import HELD_OUT_SIZE, Outcome, Trial
from .whole import make_edit, open_edit

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
    job = _open(trial, cfg)
    seconds = make_edit(job)
    result, views = job.editable.result().to("cpu"), held_out_orbit(HELD_OUT_SIZE)
    images = shots(result, views)
    truth = turned_truth(images, trial.edit, trial.scene_seed, views)
    outlines = held_out_orbit(OUTLINE_SIZE)
    figures = shape_figures(result, trial.edit, trial.scene_seed, outlines, truth.turn_deg)
    return Outcome(
        trial, truth, images,
        noise_predictions=job.counters.rows, encodes=job.counters.encoded_images, seconds=seconds,
        figures={**figures, "rest_psnr": _rest_psnr(job, result)},
    )  # fmt: skip


def edit_views(trial: Trial, cfg: DictConfig) -> Outcome:
    """Edit the views of a refit for the first time, and look at them before anything is fitted to them.

    Args:
        trial: What to edit.
        cfg: Experiment of a refit; see ``run_shape``.

    Returns:
        The edited views beside the truth at their cameras. ``view_difference`` is what ``view_agreement`` finds in them
        at the true surface of what the edit is about, ``true_difference`` in views of the truth.

    Raises:
        ConfigError: If the experiment is of another system.
    """
    job = _open(trial, cfg)
    if not isinstance(job, SceneRefit):
        raise ConfigError(
            what=f"a method of views is of {cfg.system_type}", expected="a refit, idu-gs-system",
            fix="name configs/shape-gs.yaml, or a config that includes it",
        )  # fmt: skip
    cameras, begin = job.editing.cameras.to("cpu"), time.monotonic()
    job.counters.reset()
    images = job.editing.edit(None, torch.arange(len(cameras)), job.rounds[0].strength, 0)[0].cpu()
    seconds = time.monotonic() - begin
    truth = make_truth(trial.edit, trial.scene_seed, cameras)
    depths, alphas = render_depths(to_gaussians(build_scene(trial.edit.target, trial.scene_seed)), cameras)
    is_compared = (truth.inside & (alphas > OPAQUE))[:, None].float()
    ours, theirs = (
        view_agreement(each, depths[:, None], cameras.viewmats, cameras.Ks, is_compared)
        for each in (images, truth.target)
    )
    return Outcome(
        trial, truth, images, noise_predictions=job.counters.rows, encodes=job.counters.encoded_images,
        seconds=seconds, figures={"view_difference": ours.difference, "true_difference": theirs.difference},
    )  # fmt: skip


def _open(trial: Trial, cfg: DictConfig) -> SceneRefit | SceneEdit:
    """The edit laid out on a scene on disk."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_scene(folder, trial.edit.source, trial.scene_seed)
        return open_edit(trial, cfg, {
            "system.scene": str(folder / "scene.ply"), "data.cameras": str(folder / "cameras.json"),
            "system.mask.picture": str(folder / "masks"),
        })  # fmt: skip


@torch.no_grad()
def _rest_psnr(job: SceneRefit | SceneEdit, result: Gaussians) -> float | None:
    """PSNR in dB of what neither the old nor the new object covers, to the source."""
    views = job.views.test.resized(HELD_OUT_SIZE, HELD_OUT_SIZE)
    renders = [render_bchw(each, views, job.background).permute(0, 2, 3, 1) for each in (job.scene_before(), result)]
    return measure_change(coverage(*job.selection_in_view(), views), *renders)["psnr_outside"]
