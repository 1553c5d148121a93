"""The 2D system: the same guidance on one picture."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Float
from omegaconf import DictConfig
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader

import threestudio
from threestudio.systems.base import BaseSystem
from threestudio.utils.config import parse_structured

from ..data.gs_views import Steps
from ..errors import ConfigError, SceneFormatError
from ..guidance import guidance_class, prompts_class
from ..metrics import IDENTICAL_PSNR, psnr
from .editable_pictures import EditablePictures
from .report import (
    VISIBLE_CHANGE,
    check_report_model,
    clip_scores_of_edit,
    grid_row,
    package_versions,
    peak_memory,
)


@dataclass
class SinglePictureConfig:
    """Keys of the picture."""

    picture: str = ""
    """File to edit, any size and aspect."""
    size: int = 0
    """Shorter side in pixels it is edited at; 0: what the diffusion model was trained on."""


@threestudio.register("ssd-picture")
class SinglePicture(pl.LightningDataModule):
    """Data module of one picture."""

    Config = SinglePictureConfig

    def __init__(self, cfg: dict | DictConfig | None = None) -> None:
        super().__init__()
        self.cfg = parse_structured(SinglePictureConfig, cfg)

    def image(self, model_size: int, size_multiple: int) -> Float[Tensor, "1 3 h w"]:
        """The picture in [0, 1], its shorter side at the size of the config or the model, sides in whole multiples."""
        picture = read_rgb(self.cfg.picture, "picture")
        scale = (self.cfg.size or model_size) / min(picture.size)
        sides = [max(size_multiple, round(side * scale / size_multiple) * size_multiple) for side in picture.size]
        return as_tensor(picture.resize(sides, Image.LANCZOS))

    def train_dataloader(self) -> DataLoader:
        return DataLoader(Steps(), batch_size=None)

    def test_dataloader(self) -> DataLoader:
        return DataLoader([{}], batch_size=None)

    predict_dataloader = test_dataloader


@threestudio.register("ssd-image-system")
class ImageEditSystem(BaseSystem):
    """Edits one picture by words; ``save/edited.png`` is the result."""

    @dataclass
    class Config(BaseSystem.Config):
        """Keys of the edit."""

        num_steps: int = 200
        """Optimisation steps, >= 1."""
        seed: int = 0
        """Decides timesteps and noise."""
        parametrisation: Literal["latent", "pixel"] = "latent"
        """What is optimised: the latent (as DDS does), or the pixels through the encoder."""
        latent_steps: Literal["sgd", "adam"] = "sgd"
        """How latents move: sgd, by the score itself, as published; adam, whatever the score's size is."""
        learning_rate: Any = 0.02
        """Of the steps on latents, or of Adam's on pixels; number or schedule."""
        lambda_detail: Any = 0.0
        """Weight of changes finer than a latent cell, for pixels, number or schedule, >= 0: an encoder that cannot see
        them lets them grow into a grid."""
        mask_picture: str | None = None
        """White may change; the rest is put back after the edit and masked in latent space during it."""
        guidance_type: str = "ssd-guidance"
        """Registered guidance."""
        guidance: dict = field(default_factory=dict)
        """Its keys."""
        prompt_processor_type: str = "ssd-prompt-processor"
        """Registered prompt processor."""
        prompt_processor: dict = field(default_factory=dict)
        """Its keys."""
        clip_model: str = "tiny-clip"
        """CLIP of the report."""

    cfg: Config

    def configure(self) -> None:
        """Load the model and embed the prompts."""
        if self.cfg.num_steps < 1:
            raise ConfigError(what=f"steps is {self.cfg.num_steps}", expected="at least 1", fix="set steps=200")
        self.prompt_processor = prompts_class(self.cfg.prompt_processor_type)(self.cfg.prompt_processor)
        self.guidance = guidance_class(self.cfg.guidance_type)(self.cfg.guidance)
        self._prompts = self.prompt_processor(self.guidance.backbone, self.guidance.prompt_names)
        self.editable: EditablePictures | None = None
        self._seconds, self._begin = 0.0, None

    def setup(self, stage: str) -> None:
        """Lightning hook: read the picture, compute its latents, once; the report's CLIP must be there by now."""
        if self.editable is not None:
            return
        if stage in ("fit", "test"):
            check_report_model(self.cfg.clip_model, self.guidance.cfg.offline)
        backbone = self.guidance.backbone
        image = self.trainer.datamodule.image(backbone.image_size, backbone.size_multiple).to(backbone.device)
        mask = read_mask(self.cfg.mask_picture, "system.mask_picture", image) if self.cfg.mask_picture else None
        self.editable = EditablePictures(backbone, image, self.cfg.parametrisation, mask)

    def on_fit_start(self) -> None:
        """Lightning hook: the clock starts."""
        self._begin = time.monotonic()

    def training_step(self, batch: dict, batch_idx: int) -> Tensor:
        """One batched prediction; for pixels, one encode with gradient before it."""
        loss, output = self.editable.step(
            self.guidance, self._prompts, step=self.true_global_step, num_steps=self.cfg.num_steps, seed=self.cfg.seed,
            detail_weight=self.C(self.cfg.lambda_detail),
        )  # fmt: skip
        self.log("train/timestep", float(output.timestep))
        self.log("train/score", output.score.pow(2).mean().sqrt(), prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """As ``latent_steps`` says for a latent, Adam for pixels."""
        return self.editable.make_optimizer(self.cfg.latent_steps)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Lightning hook: the learning rate of this step."""
        for group in optimizer.param_groups:
            group["lr"] = self.C(self.cfg.learning_rate)

    def on_fit_end(self) -> None:
        """Lightning hook: how long it took."""
        self._seconds = self._elapsed()
        self._begin = None

    def _elapsed(self) -> float:
        return self._seconds + (time.monotonic() - self._begin if self._begin is not None else 0.0)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Lightning hook: time spent so far, and what the guidance has learned."""
        checkpoint["train_seconds"], checkpoint["guidance"] = self._elapsed(), self.guidance.state_dict()

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Lightning hook: see on_save_checkpoint."""
        self._seconds = checkpoint.get("train_seconds", 0.0)
        self.guidance.load_state_dict(checkpoint.get("guidance", {}))

    def result(self) -> Float[Tensor, "1 3 h w"]:
        """The edited picture in [0, 1]; outside the mask it is the source."""
        return self.editable.result()

    def test_step(self, batch: dict, batch_idx: int) -> None:
        """Before/after picture and report."""
        edited, source, mask = self.result(), self.editable.images_src, self.editable.masks
        if not torch.isfinite(edited).all():
            threestudio.warn("The edit is not finite; nothing is written. Lower system.learning_rate.")
            self.exit_code = 3
            return
        report = {**self._run_facts(), **self._measure(source, edited, mask), "versions": package_versions()}
        self.save_json("report.json", report)
        with torch.no_grad():
            reconstruction = self.guidance.backbone.decode(self.editable.latents_src)
        pictures = [image[0].permute(1, 2, 0) for image in (source, reconstruction, edited)]
        self.save_image_grid("grid.png", [grid_row(pictures)])
        if report["change_inside"] <= VISIBLE_CHANGE:
            threestudio.warn(
                "The edit changed nothing visible: give it more steps, or a prompt further from the source."
            )
            self.exit_code = 3

    def _run_facts(self) -> dict[str, Any]:
        counters = self.guidance.backbone.counters
        return {
            "source_prompt": self.prompt_processor.cfg.source_prompt,
            "target_prompt": self.prompt_processor.cfg.target_prompt,
            "score": dict(self.guidance.cfg.score),
            **self.guidance.backbone.provenance,
            "parametrisation": self.cfg.parametrisation,
            "seed": self.cfg.seed,
            "steps": self.true_global_step,
            "seconds": round(self._seconds, 2),
            "network_calls": counters.network_calls,
            "noise_predictions": counters.rows,
            "encodes": counters.encodes,
            "peak_memory_bytes": peak_memory(self.device),
            "device": str(self.device),
        }

    def _measure(self, source: Tensor, edited: Tensor, mask: Tensor | None) -> dict[str, Any]:
        change = (edited - source).abs().mean(1)
        inside = torch.ones_like(change, dtype=torch.bool) if mask is None else mask[:, 0] > 0.5
        texts = (self.prompt_processor.cfg.source_prompt, self.prompt_processor.cfg.target_prompt)
        outside = torch.zeros_like(inside) if mask is None else mask[:, 0] == 0
        has_outside = bool(outside.any())
        return {
            "change_inside": float(change[inside].mean()),
            "change_outside": float(change[outside].mean()) if has_outside else None,
            "psnr_outside": float(psnr(edited, source, outside).clamp(max=IDENTICAL_PSNR)) if has_outside else None,
            **clip_scores_of_edit(source, edited, texts, self.cfg.clip_model, self.guidance.cfg.offline),
            "clip_model": self.cfg.clip_model,
        }

    def predict_step(self, batch: dict, batch_idx: int) -> None:
        """Write the edited picture."""
        if torch.isfinite(self.result()).all():
            self.result_path = self.save_rgb_image("edited.png", self.result()[0].permute(1, 2, 0).cpu())


def read_mask(path: str | Path, key: str, image: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 1 h w"]:
    """A mask picture at the size of ``image``, in [0, 1].

    Raises:
        ConfigError: If nothing in it is white.
        SceneFormatError: If it cannot be read.
    """
    height, width = image.shape[-2:]
    mask = read_rgb(path, key).convert("L").resize((width, height), Image.BILINEAR)
    values = torch.from_numpy(np.asarray(mask, np.float32) / 255)[None, None].to(image)
    if not (values > 0.5).any():
        raise ConfigError(what=f"mask {path} is black", expected="white where the picture may change", fix="invert it")
    return values


def read_rgb(path: str | Path, key: str) -> Image.Image:
    """A picture file as RGB.

    Raises:
        SceneFormatError: If it does not exist or is no picture.
    """
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, UnidentifiedImageError) as cause:
        raise SceneFormatError(
            what=f"{key} {path} cannot be read", expected="a PNG or JPEG file", fix=f"set {key} to a picture"
        ) from cause


def as_tensor(picture: Image.Image) -> Float[Tensor, "1 3 h w"]:
    """A picture as a batch of one, in [0, 1]."""
    return torch.from_numpy(np.asarray(picture, np.float32) / 255).permute(2, 0, 1)[None]
