"""The 2D systems' common ground, and the one that edits an image by a score."""

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

import threestudio

from ..data.image import load_image
from ..early import named
from ..edits.edit import Edit
from ..edits.full_size import at_full_size
from ..edits.image_edit import ImageEdit, ImageEditConfig
from ..metrics import IDENTICAL_PSNR, psnr
from ..report.answers import VISIBLE_CHANGE
from ..report.edit_report import (
    check_report_model,
    clip_model_of,
    clip_scores_of_edit,
    distillation_facts,
    grid_row,
    verdicts_of,
)
from ..report.run_page import save_page, views_of
from .edit_base import EditSystem
from .identity import Identity, of_fields, of_files, of_model, of_words


class ImageSystem(EditSystem):
    """Edits one image by words; ``save/edited.png`` is the result at the picture's own size. A subclass says by what.

    Attributes:
        picture: The file, after ``open``.
    """

    picture: str

    renders = False
    advice = "give it more steps, or a prompt further from the source"
    """What to do about an edit that changed nothing visible."""

    class Subject(NamedTuple):
        """What the report is of.

        Attributes:
            source: The image before the edit, in [0, 1].
            mask: White (1) may change; None: everything.
            texts: Source and target prompt.
            between: Images that stand between source and edit in the grid.
            facts: What the method says of itself.
            is_offline: Whether the hub may not be asked.
        """

        source: Float[Tensor, "1 3 h w"]
        mask: Float[Tensor, "1 1 h w"] | None
        texts: tuple[str, str]
        between: list[Float[Tensor, "1 3 h w"]]
        facts: dict[str, Any]
        is_offline: bool

    def files(self, data: Any) -> Identity:
        """The image and its mask.

        Args:
            data: The data module.
        """
        masks = [self.cfg.mask_picture] if self.cfg.mask_picture else []
        return {"picture": of_files([named(data.cfg.picture)]), "mask": of_files(map(named, masks))}

    @abstractmethod
    def subject(self) -> Subject:
        """What the report is of, after the edit."""

    @abstractmethod
    def result(self) -> Float[Tensor, "1 3 h w"]:
        """The edited image in [0, 1]."""

    @abstractmethod
    def unedited(self) -> Float[Tensor, "1 3 h w"]:
        """What ``result`` would be without any change, in [0, 1]."""

    def report(self) -> None:
        """Source, what stands between, and the edit in one picture; report."""
        source, mask, texts, between, facts, is_offline = self.subject()
        edited = self.result()
        change = (edited - source).abs().mean(1)
        inside = torch.ones_like(change, dtype=torch.bool) if mask is None else mask[:, 0] > 0.5
        outside = torch.zeros_like(inside) if mask is None else mask[:, 0] == 0
        has_outside = bool(outside.any())
        report = {
            "source_prompt": texts[0],
            "target_prompt": texts[1],
            **facts,
            "change_inside": float(change[inside].mean()),
            "change_outside": float(change[outside].mean()) if has_outside else None,
            "psnr_outside": float(psnr(edited, source, outside).clamp(max=IDENTICAL_PSNR)) if has_outside else None,
            **clip_scores_of_edit(source, edited, texts, clip_model_of(self.cfg), is_offline),
            "clip_model": clip_model_of(self.cfg),
            **self.run_facts(),
        }
        report["changed_share"] = float((change[inside] > VISIBLE_CHANGE).float().mean()) if inside.any() else None
        report["changed_visibly"] = report["change_inside"] > VISIBLE_CHANGE
        self.verdicts = report["verdicts"] = verdicts_of(report)
        self.save_json("report.json", report)
        images = [image[0].permute(1, 2, 0) for image in (source, *between, edited)]
        self.save_image_grid("grid.png", [grid_row(images)])
        selected = None if mask is None else mask[:, 0]
        views = views_of(["the picture"], images[:1], images[-1:], selected)
        save_page(self.save_folder, texts, views)
        self.warn_unless_visible(report["changed_visibly"], self.advice)

    def export(self) -> str:
        """Write the edited image, and as it is at the model's size."""
        result = self.result()
        self.save_rgb_image("edited_model_size.png", result[0].permute(1, 2, 0).cpu())
        whole = at_full_size(self.picture, self.cfg.mask_picture, self.unedited(), result)
        return self.save_rgb_image("edited.png", whole[0].permute(1, 2, 0).cpu())


@threestudio.register("ssd-image-system")
class ImageEditSystem(ImageSystem):
    """The same guidance as in scenes, on one image."""

    Config = ImageEditConfig

    def make(self) -> None:
        """Load the model and embed the prompts."""
        self.job = ImageEdit(self.cfg)

    def open(self, data: Any, stage: str) -> Edit:
        """Read the image and compute its latents; the report's CLIP must be there by now."""
        if stage in ("fit", "test"):
            check_report_model(clip_model_of(self.cfg), self.job.guidance.cfg.offline)
        backbone, self.picture = self.job.guidance.backbone, data.cfg.picture
        self.job.open(load_image(data.cfg, backbone.image_size, backbone.size_multiple))
        return self.job.edit

    def identity(self, data: Any) -> Identity:
        """Image, mask, prompts, model and score."""
        prompts, guidance = self.job.prompts.cfg, self.job.guidance
        words = prompts.source_prompt, prompts.target_prompt, prompts.negative_prompt
        files = self.files(data)
        return files | {
            "prompts": of_words(*words), "model": of_model(guidance.cfg), "score": of_fields(guidance.score)
        }  # fmt: skip

    def subject(self) -> ImageSystem.Subject:
        """What the report is of; between source and edit stands what the autoencoder makes of the source."""
        job, editable, prompts = self.job, self.job.edit.editable, self.job.prompts.cfg
        decoded = job.guidance.backbone.decode(editable.latents_src)
        keys = {"strength": self.cfg.strength, "parametrisation": self.cfg.parametrisation}
        facts = {**keys, **distillation_facts(job.guidance)}
        texts = prompts.source_prompt, prompts.target_prompt
        is_offline = job.guidance.cfg.offline
        return self.Subject(editable.images_src, editable.masks, texts, [decoded], facts, is_offline)

    def result(self) -> Float[Tensor, "1 3 h w"]:
        """The edited image in [0, 1]."""
        return self.job.edit.result()

    def unedited(self) -> Float[Tensor, "1 3 h w"]:
        """What the autoencoder makes of the source, or the source itself where pixels are edited."""
        return self.job.edit.editable.unedited()
