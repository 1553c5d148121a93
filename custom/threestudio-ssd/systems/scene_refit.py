"""The system that changes shapes: edits the views, refits the splat (Haque et al. 2023)."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

import threestudio

from ..edits.edit import Edit
from ..refits.scene_refit import SceneRefit, SceneRefitConfig
from .identity import Identity, of_fields, of_model, of_words
from .scene_edit import SceneEditSystem


@threestudio.register("idu-gs-system")
class SceneRefitSystem(SceneEditSystem):
    """Replaces the selection by what the words say; ``save/edited.<suffix of the scene>`` is the result."""

    Config = SceneRefitConfig
    edit_type = SceneRefit
    progress_bar = ("loss", "psnr")
    job: SceneRefit

    def open(self, data: Any, stage: str) -> Edit:
        """Choose the views, the selection and the region; edited views are shown as they come."""
        edit = super().open(data, stage)
        if self.cfg.preview_every:
            self.job.edit.on_views = self.save_views
        return edit

    def identity(self, data: Any) -> Identity:
        """Scene, cameras, selection, prompts, model and editor."""
        editing, editor = self.cfg.editing, self.job.editor
        return {
            **self.place(data), "prompts": of_words(*self.words, self.cfg.negative_prompt),
            "model": of_model(editing) if editor.editor.has_network else of_words("none"),
            "editor": of_words(of_fields(editor.editor), of_fields(editor.consistency)),
        }  # fmt: skip

    @property
    def is_offline(self) -> bool:
        """Whether the hub is never asked."""
        return self.cfg.editing.offline

    @property
    def words(self) -> tuple[str, str]:
        """Source and target prompt."""
        return self.cfg.source_prompt, self.cfg.target_prompt

    def save_views(self, number: int, names: Sequence[str], images: Float[Tensor, "b 3 h w"]) -> None:
        """Write ``views/round-<n>/<view>.png``."""
        with self.beside_the_edit("edited views"):
            self._save_views(number, names, images)

    def _save_views(self, number: int, names: Sequence[str], images: Float[Tensor, "b 3 h w"]) -> None:
        for name, image in zip(names, images, strict=True):
            self.save_rgb_image(f"views/round-{number}/{name}.png", image.permute(1, 2, 0).cpu())

    def facts(self) -> tuple[dict[str, Any], str | None]:
        """What a report says of the editor."""
        counters = self.job.counters
        costs = {"network_calls": counters.network_calls, "noise_predictions": counters.rows}
        return {"strength": self.cfg.strength, **self.job.editor.facts, **costs}, None
