"""Shows what an edit may change, before any model is loaded: ``launch.py --config X --run preview``."""

from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig

import threestudio
from threestudio.utils.base import Configurable
from threestudio.utils.saving import SaverMixin

from ..data import ViewPlan
from ..gaussians.io import load_gaussians
from ..masks import find_selection, save_previews, settle_mask


class _Folder(SaverMixin):
    """A folder to save into."""


@threestudio.register("app-preview")
class Preview(Configurable):
    """Write one picture a view with the selection tinted, and selection.npy; needs --config of the edit."""

    @dataclass
    class Config:
        """Keys of the preview."""

        out: str = ""
        """Where the pictures go; empty: save/ in the run folder."""

    def __call__(self, experiment: DictConfig) -> int:
        """Find the selection as the edit would, and draw it."""
        system = experiment.system
        gaussians = load_gaussians(system.scene)
        mask = settle_mask(system.mask, system.scene, (system.guidance if "guidance" in system else system).model)
        plan = ViewPlan(experiment.data)
        views = plan.views(gaussians, system.mask.view_size, 2).train
        background = torch.tensor(list(system.background), dtype=torch.float32)
        selection = find_selection(mask, gaussians, views, plan.capture, background)
        folder = _Folder()
        folder.set_save_dir(self.cfg.out or Path(experiment.trial_dir) / "save")
        paths = save_previews(folder, gaussians, selection, views, background)
        threestudio.info(f"{len(paths)} pictures are in {Path(paths[0]).parent}.")
        threestudio.info(f"To use this very selection again: mask.saved={folder.get_save_dir()}/selection.npy")
        return 0
