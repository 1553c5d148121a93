"""The 2D system of image editors: one image, one editor, one call."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

import threestudio

from ..data.image import load_image
from ..editors.image_edit import EditorImageConfig, EditorImageEdit
from ..edits.edit import Edit
from ..report.edit_report import check_report_model, clip_model_of
from .identity import Identity, of_fields, of_model, of_words
from .image_edit import ImageSystem


@threestudio.register("editor-image-system")
class EditorImageSystem(ImageSystem):
    """Any editor on one image; report and result are those of an edit by a score."""

    Config = EditorImageConfig
    progress_bar = ("change",)
    advice = "give it more strength, or a prompt further from the source"

    def make(self) -> None:
        """Load the editor's model and embed the prompts."""
        self.job = EditorImageEdit(self.cfg)

    def open(self, data: Any, stage: str) -> Edit:
        """Read the image; the report's CLIP must be there by now."""
        if stage in ("fit", "test"):
            check_report_model(clip_model_of(self.cfg), self.cfg.editing.offline)
        network, self.picture = self.job.editor.network, data.cfg.picture
        self.job.open(load_image(data.cfg, network.image_size, network.size_multiple), data.cfg.picture)
        return self.job.edit

    def identity(self, data: Any) -> Identity:
        """Image, mask, prompts, model and editor."""
        cfg, editor = self.cfg, self.job.editor
        return self.files(data) | {
            "prompts": of_words(cfg.source_prompt, cfg.target_prompt, cfg.negative_prompt),
            "model": of_model(cfg.editing) if editor.editor.has_network else of_words("none"),
            "editor": of_words(of_fields(editor.editor), of_fields(editor.consistency)),
        }  # fmt: skip

    def subject(self) -> ImageSystem.Subject:
        """What the report is of."""
        editor, views = self.job.editor, self.job.edit.views
        counters = editor.network.counters
        facts = {
            **editor.facts, "strength": self.cfg.strength, "network_calls": counters.network_calls,
            "noise_predictions": counters.rows,
        }  # fmt: skip
        texts = self.cfg.source_prompt, self.cfg.target_prompt
        return self.Subject(views.sources, views.masks, texts, [], facts, self.cfg.editing.offline)

    def result(self) -> Float[Tensor, "1 3 h w"]:
        """The edited image in [0, 1]."""
        return self.job.edit.result()

    def unedited(self) -> Float[Tensor, "1 3 h w"]:
        """The source."""
        return self.job.edit.views.sources
