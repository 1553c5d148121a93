"""The 3DGS system: an edit of a scene by words."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

import threestudio

from ..edits.edit import Edit
from ..edits.scene_edit import SceneEdit, SceneEditConfig
from ..fields import LatentField, RadianceField
from ..masks import named_outlines, save_previews
from ..rendering import render_each
from ..report.edit_report import (
    EditReport,
    check_report_model,
    clip_model_of,
    color_facts,
    distillation_facts,
    make_report,
    runaway_colors,
    save_before_after,
)  # fmt: skip
from .edit_base import EditSystem, splat_suffix
from .identity import Identity, of_cameras, of_fields, of_model, of_scene, of_selection, of_words

PROGRESS_VIEWS, PROGRESS_SCALE = 4, 0.5


@threestudio.register("ssd-gs-system")
class SceneEditSystem(EditSystem):
    """Edits a splat scene by words; ``save/edited.<suffix of the scene>`` is the result."""

    Config = SceneEditConfig
    edit_type = SceneEdit
    """What is run."""

    def make(self) -> None:
        """Read the scene, load the model, embed the prompts."""
        self.job = self.edit_type(self.cfg)

    def open(self, data: Any, stage: str) -> Edit:
        """Choose the views and the selection; the report's CLIP must be there by now."""
        if stage in ("fit", "test"):
            check_report_model(clip_model_of(self.cfg), self.is_offline)
        self.job.open(data.plan)
        return self.job.edit

    def identity(self, data: Any) -> Identity:
        """Scene, cameras, selection, prompts, model and score."""
        job, guidance = self.job, self.job.guidance
        return {
            **self.place(data), "prompts": of_words(*self.words, job.prompts.cfg.negative_prompt),
            "model": of_model(guidance.cfg), "score": of_fields(guidance.score),
        }  # fmt: skip

    def place(self, data: Any) -> Identity:
        """Scene, cameras and selection.

        Args:
            data: The data module.
        """
        job = self.job
        return {
            "scene": of_scene(job.source), "cameras": of_cameras(data.plan.capture),
            "selection": of_selection(job.selection.is_selected),
        }  # fmt: skip

    @property
    def is_offline(self) -> bool:
        """Whether the hub is never asked."""
        return self.job.guidance.cfg.offline

    @property
    def words(self) -> tuple[str, str]:
        """Source and target prompt."""
        return self.job.prompts.cfg.source_prompt, self.job.prompts.cfg.target_prompt

    def on_fit_start(self) -> None:
        """Lightning hook: pictures of the mask, then what is known before the loop."""
        if self.cfg.preview_every and self.trainer.is_global_zero:
            job = self.job
            with self.beside_the_edit("pictures of the mask"):
                outlines = named_outlines(self.cfg)
                save_previews(self, job.scene, job.selection, job.views.train, job.background, outlines)
        super().on_fit_start()

    def validation_step(self, batch: dict, batch_idx: int) -> None:
        """One picture of where the run stands."""
        self.save_progress()

    def progress_images(self) -> list[Sequence[Float[Tensor, "_ _ 3"]]]:
        """Some held-out views."""
        cameras = self.job.views.test[slice(0, PROGRESS_VIEWS)].scaled(PROGRESS_SCALE)
        return [list(render_each(self.job.editable.scene(), cameras, self.job.background))]

    def report(self) -> None:
        """Before/after grid and video, report."""
        job = self.job
        before, after = job.scene_before(), job.editable.result()
        facts, advice = self.facts()
        if advice:
            threestudio.warn(advice)
        save_before_after(self, before, after, job.views.video, job.background)
        report = make_report(
            EditReport(
                source=before, edited=after, selection_in_view=job.selection_in_view(),
                num_selected=job.num_selected, cameras=job.views.test,
                background=job.background, source_prompt=self.words[0], target_prompt=self.words[1],
                clip_model=clip_model_of(self.cfg), offline=self.is_offline,
            ),
            self, {"scene": self.cfg.scene, **facts, **self.run_facts(), "warnings": [advice] if advice else []},
        )  # fmt: skip
        self.verdicts = report["verdicts"]
        self.warn_unless_visible(report["changed_visibly"], "give it more steps, or a prompt further from the source")

    def facts(self) -> tuple[dict[str, Any], str | None]:
        """What a report says of the model and the colours beside its figures, and what to warn of."""
        keys = {"strength": self.cfg.strength, "preset": self.cfg.preset, "edit_kind": self.job.kind}
        if isinstance(self.job.source, LatentField):
            return {**keys, **distillation_facts(self.job.guidance)}, None
        colors = self.job.edit.color_readings(self.job.edit.scenes[0])
        facts = {**keys, **color_facts(*colors), **distillation_facts(self.job.guidance)}
        runaway = runaway_colors(*colors)
        if not runaway:
            return facts, None
        rate = "learning_rates.sh0" if self.cfg.color_way is None else "color_way"
        is_held = self.cfg.colors == "bounded" and self.cfg.color_steps == "shared"
        hold = "" if is_held else "set system.colors=bounded system.color_steps=shared, or "
        return facts, f"Colours ran away {runaway}; {hold}lower system.{rate}."

    def export(self) -> str:
        """Write the edited splat, in the format of the scene, and the selection."""
        job, result = self.job, self.job.editable.result()
        if isinstance(result, RadianceField):
            path = self.save_field("edited", result, job.views.train, job.background)
        else:
            path = self.save_splat(f"edited{splat_suffix(self.cfg.scene)}", result)
        self.save_data("selection", job.selection.is_selected.cpu())
        if job.edit.scenes[0].growth.is_on or len(result) != len(job.scene_before()):
            self.save_data("edited_selection", job.editable.result_selection().cpu())
        source, target = self.words
        words = {"source_prompt": source, "target_prompt": target}
        self.save_descent(path, job.editable.result_rows(), len(job.scene_before()), words)
        return path
