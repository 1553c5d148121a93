"""The system that takes the selection out of a scene and closes the hole: 2D inpainting, then a fit."""

from typing import Any

import torch

import threestudio

from ..edits.edit import Edit
from ..edits.removal import RemovalConfig, SceneRemoval
from ..masks import save_previews
from ..rendering import coverage, render_each
from ..report.edit_report import color_facts, grid_row, measure_change, save_before_after, verdicts_of
from .edit_base import EditSystem, splat_suffix
from .identity import Identity, of_cameras, of_gaussians, of_selection, of_words

FILLED_VIEWS = 8
"""Views in the picture of what was filled."""


@threestudio.register("gs-delete-system")
class SceneDeleteSystem(EditSystem):
    """Removes the selection; ``save/edited.<suffix of the scene>`` is the result."""

    Config = RemovalConfig
    progress_bar = ("loss",)

    def make(self) -> None:
        """Read the scene."""
        self.job = SceneRemoval(self.cfg)

    def open(self, data: Any, stage: str) -> Edit:
        """Remove, and fill the views."""
        self.job.open(data.plan)
        return self.job.edit

    def identity(self, data: Any) -> Identity:
        """Scene, cameras, selection, prompt and inpainter."""
        job, inpainter = self.job, self.job.hole.inpainter
        return {
            "scene": of_gaussians(job.source), "cameras": of_cameras(data.plan.capture),
            "selection": of_selection(job.is_removed), "prompt": of_words(self.cfg.prompt),
            "inpainter": of_words(self.cfg.inpainter, inpainter.model_id, inpainter.revision),
        }  # fmt: skip

    def on_fit_start(self) -> None:
        """Lightning hook: pictures of what is removed and of the filled views."""
        job = self.job
        if self.cfg.preview_every:
            holes = [mask[..., None].float().expand(-1, -1, 3) for mask in job.hole.masks[:FILLED_VIEWS]]
            with self.beside_the_edit("pictures of the mask"):
                save_previews(self, job.scene, job.selection, job.views.train, job.background)
                self.save_image_grid("inpainted.png", [grid_row(holes), grid_row(job.hole.targets[:FILLED_VIEWS])])
        super().on_fit_start()

    def report(self) -> None:
        """Held-out views before, with the object merely removed, and filled; report and video."""
        job, after = self.job, self.job.editable.result()
        rows = [
            torch.stack(list(render_each(scene, job.views.test, job.background)))
            for scene in (job.scene, job.hole.bare, after)
        ]
        change = measure_change(coverage(job.scene, job.is_removed, job.views.test), rows[0], rows[2])
        self.save_image_grid("grid.png", [grid_row(row) for row in rows])
        counts = {"num_gaussians_before": len(job.scene), "num_gaussians_after": len(after)}
        colors = color_facts(*job.edit.color_readings(job.edit.scenes[0]))
        self.verdicts = verdicts_of(change)
        self.save_json(
            "report.json", {**job.facts(), **counts, **change, "verdicts": self.verdicts, **colors, **self.run_facts()}
        )
        self.warn_unless_visible(change["changed_visibly"], "what is removed was hidden; check the mask")
        save_before_after(self, job.scene, after, job.views.video, job.background)

    def export(self) -> str:
        """Write the splat, in the format of the scene, and what was removed."""
        path = self.save_splat(f"edited{splat_suffix(self.cfg.scene)}", self.job.editable.result())
        self.save_data("selection", self.job.is_removed.cpu())
        return path
