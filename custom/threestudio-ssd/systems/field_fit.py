"""The system that makes a radiance field, from posed photographs or from the renders of a splat."""

from typing import Any

import threestudio

from ..data.modules import PhotosData
from ..edits.edit import Edit
from ..edits.field_fit import FieldFit, FieldFitConfig
from ..fields import field_as_gaussians
from ..gaussians import Gaussians
from .edit_base import EditSystem
from .identity import Identity, of_cameras, of_scene
from .scene_fit import SceneFitSystem


@threestudio.register("nerf-fit-system")
class FieldFitSystem(SceneFitSystem):
    """Fits a radiance field; ``save/fitted.field`` is the result, ``save/fitted.ply`` a splat of it."""

    Config = FieldFitConfig
    progress_bar = ("psnr", "nodes")
    made, counted = "A radiance field", "num_nodes"
    job: FieldFit

    def make(self) -> None:
        """Check the keys; read the splat, if one is fitted."""
        self.job = FieldFit(self.cfg)

    def open(self, data: Any, stage: str) -> Edit:
        """Read the photographs, or render the splat."""
        if isinstance(data, PhotosData):
            self.job.open_photographs(data.capture)
        else:
            self.job.open_views(data.plan)
        return self.job.edit

    def identity(self, data: Any) -> Identity:
        """The photographs, or the splat, and the cameras."""
        source = self.job.source
        if source is None:
            return super().identity(data)
        return {"scene": of_scene(source), "cameras": of_cameras(data.plan.capture)}

    def training_step(self, batch: dict, batch_idx: int) -> None:
        """One step of the fit."""
        EditSystem.training_step(self, batch, batch_idx)

    def scene_now(self) -> Gaussians | None:
        """The nodes as they are, for whoever looks on."""
        return field_as_gaussians(self.job.scene())

    def export(self) -> str:
        """Write the field, and a splat of it."""
        job = self.job
        return self.save_field("fitted", job.scene(), job.splat_views(), job.background)
