"""The system that takes the selection out of a scene and closes the hole: 2D inpainting, then a fit."""

from pathlib import Path
from typing import Any

import torch

import threestudio

from ..edits.edit import Edit
from ..edits.removal import RemovalConfig, SceneRemoval
from ..masks import named_outlines, save_previews
from ..rendering import coverage, render_each
from ..report.edit_report import color_facts, grid_row, measure_change, save_before_after, verdicts_of
from ..report.run_page import save_page, views_of
from .edit_base import EditSystem, splat_suffix
from .identity import Identity, of_cameras, of_scene, of_selection, of_words

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
            "scene": of_scene(job.source), "cameras": of_cameras(data.plan.capture),
            "selection": of_selection(job.is_removed), "prompt": of_words(self.cfg.prompt),
            "inpainter": of_words(self.cfg.inpainter, inpainter.model_id, inpainter.revision),
        }  # fmt: skip

    def on_fit_start(self) -> None:
        """Lightning hook: pictures of what is removed and of the filled views."""
        job = self.job
        if self.cfg.preview_every:
            holes = [mask[..., None].float().expand(-1, -1, 3) for mask in job.hole.masks[:FILLED_VIEWS]]
            with self.beside_the_edit("pictures of the mask"):
                outlines = named_outlines(self.cfg)
                save_previews(self, job.scene, job.selection, job.views.train, job.background, outlines)
                self.save_image_grid("inpainted.png", [grid_row(holes), grid_row(job.hole.targets[:FILLED_VIEWS])])
        super().on_fit_start()

    def report(self) -> None:
        """Held-out views before, with the object merely removed, and filled; report and video."""
        job, after = self.job, self.job.editable.result()
        rows = [
            torch.stack(list(render_each(scene, job.views.test, job.background)))
            for scene in (job.scene, job.hole.bare, after)
        ]
        covered = coverage(job.scene, job.is_removed, job.views.test)
        change = measure_change(covered, rows[0], rows[2])
        self.save_image_grid("grid.png", [grid_row(row) for row in rows])
        counts = {"num_gaussians_before": len(job.scene), "num_gaussians_after": len(after)}
        colors = color_facts(*job.edit.color_readings(job.edit.scenes[0]))
        self.verdicts = verdicts_of(change)
        self.save_json(
            "report.json", {**job.facts(), **counts, **change, "verdicts": self.verdicts, **colors, **self.run_facts()}
        )
        save_before_after(self, job.scene, after, job.views.video, job.background)
        views = views_of(job.views.test.names, rows[0], rows[2], covered)
        save_page(self.save_folder, (None, f"{Path(self.cfg.scene).stem} without the selection"), views)
        self.warn_unless_visible(change["changed_visibly"], "what is removed was hidden; check the mask")

    def export(self) -> str:
        """Write the splat, in the format of the scene, and what was removed."""
        job = self.job
        path = self.save_splat(f"edited{splat_suffix(self.cfg.scene)}", job.editable.result())
        self.save_data("selection", job.is_removed.cpu())
        num_before, rows = len(job.scene), job.editable.result_rows()
        left = (~job.is_removed).nonzero()[:, 0]
        left = torch.cat([left, left.new_full((job.hole.num_seeds + 1,), num_before)])  # new ones, and what -1 reads
        self.save_descent(path, left[rows], num_before, {"target_prompt": self.cfg.prompt})
        return path
