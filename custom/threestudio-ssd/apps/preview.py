"""Shows what an edit may change, and for a refit what its editor makes of the views: ``--config X --run preview``."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor

import threestudio
from threestudio.utils.base import Configurable
from threestudio.utils.saving import SaverMixin

from ..data import ViewPlan
from ..editors import build_editor
from ..edits.scene_add import check_place
from ..errors import ConfigError, check_values
from ..files import write_image
from ..gaussians.io import load_gaussians
from ..masks import Selection, find_selection, named_outlines, save_previews, settle_mask
from ..masks.outlines import Outline, box_outline


class _Folder(SaverMixin):
    """A folder to save into."""


@threestudio.register("app-preview")
class Preview(Configurable):
    """Show the selection in views, and of a refit some views as its editor makes them; needs --config of the edit."""

    @dataclass
    class Config:
        """Keys of the preview."""

        out: str = ""
        """Where the pictures go; empty: save/ in the run folder."""
        views: int = 4
        """Views of a refit that are edited at each strength, >= 0; 0: none, and no model is loaded."""
        strengths: list[float] = field(default_factory=list)
        """How strongly, each in (0, 1]; empty: as strongly as the rounds of the run."""

    cfg: Config

    def __call__(self, experiment: DictConfig) -> int:
        """Find the selection as the edit would, and draw it; edit some views as the first round would."""
        cfg, system = self.cfg, experiment.system
        is_right = all(0 < strength <= 1 for strength in cfg.strengths)
        check_values("run", cfg, Preview.Config, {"views": (cfg.views >= 0, "at least 0")})
        if not is_right:
            fix = "set run.strengths=[0.9,0.5]"
            raise ConfigError(what=f"run.strengths is {list(cfg.strengths)}", expected="above 0, at most 1", fix=fix)
        folder = _Folder()
        folder.set_save_dir(cfg.out or Path(experiment.trial_dir) / "save")
        if cfg.views and "editing" in system and build_editor(system.editing.editor).has_network:
            self._edit_views(experiment, folder)
            return 0
        if "box" in system:
            check_place(system.box)
        gaussians = load_gaussians(system.scene)
        network = next((system[name] for name in ("guidance", "editing") if name in system), system)
        is_replaced = bool(system.get("replaces")) or ("seeds" in system and system.seeds.count > 0)
        mask = settle_mask(system.mask, system.scene, network.model, is_replaced=is_replaced)
        plan = ViewPlan(experiment.data)
        views = plan.views(gaussians, system.mask.view_size, 2).train
        background = torch.tensor(list(system.background), dtype=torch.float32)
        outlines = named_outlines(system)
        if "box" in system:  # an addition: of what is there nothing changes: something is made in the box
            selection = Selection(torch.zeros(len(gaussians), dtype=torch.bool))
        else:
            selection = find_selection(mask, gaussians, views, plan.capture, background)
        paths = save_previews(folder, gaussians, selection, views, background, outlines)
        _tell(folder, paths, outlines, gaussians.means[selection.is_selected])
        return 0

    def _edit_views(self, experiment: DictConfig, folder: _Folder) -> None:
        """The same for a refit, whose editor is loaded; nothing is fitted but what closes a hole."""
        from ..benchmarks.grids import labelled_rows
        from ..refits.preview import edited_views, strengths_of
        from ..refits.scene_refit import SceneRefit

        job = SceneRefit(experiment.system)
        job.open(ViewPlan(experiment.data))
        outlines = named_outlines(experiment.system)
        paths = save_previews(folder, job.scene, job.selection, job.views.train, job.background, outlines)
        _tell(folder, paths, outlines, job.scene.means[job.selection.is_selected])
        strengths = list(self.cfg.strengths) or strengths_of(job.rounds)
        columns = [
            [(f"{name}: {label}", image.permute(1, 2, 0).cpu()) for name, image in zip(names, images, strict=True)]
            for label, names, images in edited_views(job, self.cfg.views, strengths)
        ]
        path = Path(folder.get_save_dir()) / "edited_views.png"
        write_image(path, labelled_rows(list(zip(*columns, strict=True))))
        threestudio.info(f"{path} shows views before the edit and as the editor makes them, by its strength.")


def _tell(folder: _Folder, paths: list[str], outlines: list[Outline], selected: Float[Tensor, "m 3"]) -> None:
    """Where the pictures are, and the keys to paste: what was drawn, a box around the selection, the selection."""
    threestudio.info(f"{len(paths)} pictures are in {Path(paths[0]).parent}.")
    for outline in outlines:
        threestudio.info(f"Drawn: {outline.text}")
    if not len(selected):
        return
    low, high = selected.amin(0).tolist(), selected.amax(0).tolist()
    if all(least < most for least, most in zip(low, high, strict=True)):
        threestudio.info(f"A box around the selection: {box_outline('mask.box', [*low, *high]).text}")
    threestudio.info(f"To use this very selection again: mask.saved={folder.get_save_dir()}/selection.npy")
