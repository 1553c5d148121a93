"""The 2D system: the same guidance on one image."""

from typing import Any

import torch

import threestudio

from ..data.image import load_image
from ..edits.edit import Edit
from ..edits.image_edit import ImageEdit, ImageEditConfig
from ..metrics import IDENTICAL_PSNR, psnr
from ..report.edit_report import (
    VISIBLE_CHANGE,
    check_report_model,
    clip_model_of,
    clip_scores_of_edit,
    distillation_facts,
    grid_row,
)
from .edit_base import EditSystem


@threestudio.register("ssd-image-system")
class ImageEditSystem(EditSystem):
    """Edits one image by words; ``save/edited.png`` is the result."""

    Config = ImageEditConfig

    def make(self) -> None:
        """Load the model and embed the prompts."""
        self.job = ImageEdit(self.cfg)

    def open(self, data: Any, stage: str) -> Edit:
        """Read the image and compute its latents; the report's CLIP must be there by now."""
        if stage in ("fit", "test"):
            check_report_model(clip_model_of(self.cfg), self.job.guidance.cfg.offline)
        backbone = self.job.guidance.backbone
        self.job.open(load_image(data.cfg, backbone.image_size, backbone.size_multiple))
        return self.job.edit

    def report(self) -> None:
        """Source, what the autoencoder makes of it, and the edit in one picture; report."""
        job, editable, edited = self.job, self.job.edit.editable, self.job.edit.result()
        source, mask, prompts = editable.images_src, editable.masks, job.prompts.cfg
        change = (edited - source).abs().mean(1)
        inside = torch.ones_like(change, dtype=torch.bool) if mask is None else mask[:, 0] > 0.5
        outside = torch.zeros_like(inside) if mask is None else mask[:, 0] == 0
        has_outside, texts = bool(outside.any()), (prompts.source_prompt, prompts.target_prompt)
        report = {
            "source_prompt": texts[0],
            "target_prompt": texts[1],
            **distillation_facts(job.guidance),
            "parametrisation": self.cfg.parametrisation,
            "change_inside": float(change[inside].mean()),
            "change_outside": float(change[outside].mean()) if has_outside else None,
            "psnr_outside": float(psnr(edited, source, outside).clamp(max=IDENTICAL_PSNR)) if has_outside else None,
            **clip_scores_of_edit(source, edited, texts, clip_model_of(self.cfg), job.guidance.cfg.offline),
            "clip_model": clip_model_of(self.cfg),
            **self.run_facts(),
        }
        self.save_json("report.json", report)
        decoded = job.guidance.backbone.decode(editable.latents_src)
        self.save_image_grid("grid.png", [grid_row([image[0].permute(1, 2, 0) for image in (source, decoded, edited)])])
        is_visible = report["change_inside"] > VISIBLE_CHANGE
        self.warn_unless_visible(is_visible, "give it more steps, or a prompt further from the source")

    def export(self) -> str:
        """Write the edited image."""
        return self.save_rgb_image("edited.png", self.job.edit.result()[0].permute(1, 2, 0).cpu())
