"""Shows what an edit may change and what it will be, before anything is fitted: ``--config X --run preview``."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

import threestudio
from threestudio.utils.base import Configurable
from threestudio.utils.saving import SaverMixin

from ..data import ViewPlan
from ..editors import build_editor
from ..edits.gaussian_edit import SceneJob
from ..edits.preview import STRENGTHS, ScorePreview, length_note
from ..edits.scene_add import check_place
from ..edits.scene_edit import SceneEdit
from ..edits.strength import MOST
from ..errors import ConfigError, check_values
from ..files import write_image
from ..latents import load_visible
from ..masks import Selection, find_selection, named_outlines, save_previews
from ..masks.outlines import Outline, box_outline
from ..scenes import Scene


class _Folder(SaverMixin):
    """A folder to save into."""


@threestudio.register("app-preview")
class Preview(Configurable):
    """Show the selection in views, and some views as the edit will make them; needs --config of the edit."""

    @dataclass
    class Config:
        """Keys of the preview."""

        out: str = ""
        """Where the pictures go; empty: save/ in the run folder."""
        views: int = 4
        """Views that are edited at each strength, >= 0; 0: none, and no model is loaded."""
        strengths: list[float] = field(default_factory=list)
        """How strongly: of an edit by a score ``strength``, in [0, 2], and empty means 0.5, 1 and 1.5; of a refit each
        in (0, 1], and empty means as strongly as the rounds of the run."""
        seconds: float = 60.0
        """About how long the views of an edit by a score may take, > 0: with less time there are fewer steps, then
        fewer views."""

    cfg: Config

    def __call__(self, experiment: DictConfig) -> int:
        """Find the selection as the edit would, and draw it; edit some views by its score or its editor."""
        cfg, system = self.cfg, experiment.system
        rules = {"views": (cfg.views >= 0, "at least 0"), "seconds": (cfg.seconds > 0, "above 0")}
        check_values("run", cfg, Preview.Config, rules)
        job_type: Any = getattr(threestudio.find(experiment.system_type), "edit_type", SceneJob)
        is_refit = "editing" in system
        is_right = all((0 < strength <= 1) if is_refit else (0 <= strength <= MOST) for strength in cfg.strengths)
        if not is_right:
            expected, fix = "above 0, at most 1" if is_refit else "from 0 to 2", "set run.strengths=[0.9,0.5]"
            raise ConfigError(what=f"run.strengths is {list(cfg.strengths)}", expected=expected, fix=fix)
        folder = _Folder()
        folder.set_save_dir(cfg.out or Path(experiment.trial_dir) / "save")
        edit_views = self._refit if is_refit and build_editor(system.editing.editor).has_network else None
        edit_views = self._distil if job_type is SceneEdit else edit_views
        if "box" in system:
            check_place(system.box)
        if cfg.views and edit_views is not None:
            self._show_edit(job_type(system), experiment, folder, edit_views)
        else:
            self._show_selection(job_type.mask_of(system), experiment, folder)
        return 0

    def _show_selection(self, mask: DictConfig, experiment: DictConfig, folder: _Folder) -> None:
        """No model is loaded."""
        system, gaussians, plan = experiment.system, load_visible(experiment.system.scene), ViewPlan(experiment.data)
        views = plan.views(gaussians, system.mask.view_size, 2).train
        background = torch.tensor(list(system.background), dtype=torch.float32)
        if "box" in system:  # an addition: of what is there nothing changes, something is made in the box
            selection = Selection(torch.zeros(len(gaussians), dtype=torch.bool))
        else:
            selection = find_selection(mask, gaussians, views, plan.capture, background)
        outlines = named_outlines(system)
        paths = save_previews(folder, gaussians, selection, views, background, outlines)
        _tell(folder, paths, outlines, gaussians.select(selection.is_selected))

    def _show_edit(self, job: Any, experiment: DictConfig, folder: _Folder, edit_views: Callable) -> None:
        """Nothing is fitted but what closes a hole of a refit."""
        from ..benchmarks.grids import labelled_rows

        job.open(ViewPlan(experiment.data))
        outlines = named_outlines(experiment.system)
        paths = save_previews(folder, job.scene, job.selection, job.views.train, job.background, outlines)
        _tell(folder, paths, outlines, job.scene.select(job.selection.is_selected))
        columns = [
            [(f"{name}: {label}", image.permute(1, 2, 0).cpu()) for name, image in zip(names, images, strict=True)]
            for label, names, images in edit_views(job, experiment.system)
        ]
        path = Path(folder.get_save_dir()) / "edited_views.png"
        write_image(path, labelled_rows(list(zip(*columns, strict=True))))
        threestudio.info(f"{path} shows views before the edit and after it, by its strength.")

    def _distil(self, job: SceneEdit, keys: DictConfig) -> Any:
        if note := length_note(keys):
            threestudio.info(note)
        return ScorePreview(job, keys, self.cfg.views)(list(self.cfg.strengths) or STRENGTHS, self.cfg.seconds)

    def _refit(self, job: Any, keys: DictConfig) -> Any:
        from ..refits.preview import edited_views, strengths_of

        return edited_views(job, self.cfg.views, list(self.cfg.strengths) or strengths_of(job.rounds))


def _tell(folder: _Folder, paths: list[str], outlines: list[Outline], selected: Scene) -> None:
    """Where the pictures are, and the keys to paste: what was drawn, a box around the selection, the selection."""
    threestudio.info(f"{len(paths)} pictures are in {Path(paths[0]).parent}.")
    for outline in outlines:
        threestudio.info(f"Drawn: {outline.text}")
    if not len(selected):
        return
    low, high = selected.means.amin(0).tolist(), selected.means.amax(0).tolist()
    if all(least < most for least, most in zip(low, high, strict=True)):
        box = box_outline("mask.box", selected.local([*low, *high], 1))
        threestudio.info(f"A box around the selection: {box.text}")
    saved = shlex.quote(f"mask.saved={folder.get_save_dir()}/selection.npy")
    threestudio.info(f"To use this very selection again: {saved}")
