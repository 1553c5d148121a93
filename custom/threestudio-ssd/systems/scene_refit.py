"""The system that changes shapes: edits the views, refits the splat (Haque et al. 2023)."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

import threestudio

from ..edits.edit import Edit
from ..refits.scene_refit import SceneRefit, SceneRefitConfig
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
        for name, image in zip(names, images, strict=True):
            self.save_rgb_image(f"views/round-{number}/{name}.png", image.permute(1, 2, 0).cpu())

    def facts(self) -> tuple[dict[str, Any], str | None]:
        """What a report says of the editor."""
        counters = self.job.counters
        costs = {"network_calls": counters.network_calls, "noise_predictions": counters.rows}
        return {"strength": self.cfg.strength, **self.job.editor.facts, **costs}, None
