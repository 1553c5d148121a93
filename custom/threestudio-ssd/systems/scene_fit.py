"""The system that makes a splat from posed photographs, for those who have no splat yet (Kerbl et al. 2023)."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import threestudio
from threestudio.systems.base import BaseSystem

from ..cameras import Cameras
from ..data import view_order
from ..errors import check_values
from ..gaussians.io import save_gaussians
from ..metrics import psnr, ssim
from ..metrics.ssim import WINDOW
from ..rendering import render_each, render_with_info
from ..seeds import Stream, generator
from .editable import EditableGaussians
from .growth import Growth, GrowthConfig, check_growth, loss_scale
from .photometric import gaussians_from_points, photometric_loss, random_points
from .report import grid_row, package_versions, peak_memory
from .scene_edit import LearningRates
from .visible_adam import VisibleAdam

EXTENT_MARGIN = 1.1
"""Extent of a scene: this times the largest distance of a camera from the middle of all (INRIA's code)."""


@threestudio.register("gs-fit-system")
class SceneFitSystem(BaseSystem):
    """Fits Gaussians to photographs; ``save/fitted.ply`` is the result."""

    @dataclass
    class Config(BaseSystem.Config):
        """Keys of the fit."""

        num_steps: int = 6000
        """Optimisation steps, one photograph each, >= 1."""
        seed: int = 0
        """Decides the order of photographs and where Gaussians split."""
        background: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
        """Colour behind the scene, RGB in [0, 1]."""
        num_random_points: int = 5000
        """Gaussians to start from, in the cameras' midst, where a capture has no sparse points."""
        sh_degree: int = 2
        """Highest degree of view-dependent colour, 0 to 4."""
        sh_every: int = 1000
        """Steps between its degrees; the first is fitted with degree 0."""
        start_opacity: float = 0.1
        """Opacity of the Gaussians at the start, in (0, 1)."""
        learning_rates: LearningRates = field(default_factory=LearningRates)
        """Per attribute; that of means is times the scene's extent, its schedule falls by a constant ratio."""
        lambda_ssim: float = 0.2
        """Share of 1 - SSIM in the loss, the rest is L1."""
        growth: GrowthConfig = field(default_factory=lambda: GrowthConfig(kind="default"))
        """How Gaussians are added and removed."""
        preview_every: int = 1000
        """Steps between pictures of the progress in save/progress; 0: none."""

    cfg: Config

    def configure(self) -> None:
        """Check the keys."""
        check_growth(self.cfg.growth)
        check_values("system", self.cfg, self.Config, {
            "num_steps": (self.cfg.num_steps >= 1, "at least 1"),
            "sh_degree": (0 <= self.cfg.sh_degree <= 4, "0 to 4"),
            "sh_every": (self.cfg.sh_every >= 1, "at least 1"),
            "start_opacity": (0 < self.cfg.start_opacity < 1, "between 0 and 1"),
        })  # fmt: skip
        self.editable: EditableGaussians | None = None
        self.train_seconds = 0.0

    def setup(self, stage: str) -> None:
        """Lightning hook: read the photographs and place the first Gaussians, once."""
        if self.editable is not None:
            return
        data = self.trainer.datamodule
        self.photos, self.judges = data.split(self.cfg.background)
        centers = self.photos.cameras.centers
        self.extent = EXTENT_MARGIN * float((centers - centers.mean(dim=0)).norm(dim=1).max())
        points, rgbs = data.points() or self._random_points(self.photos.cameras)
        start = gaussians_from_points(points, rgbs, self.cfg.sh_degree, self.cfg.start_opacity)
        everything = torch.ones(len(start), dtype=torch.bool)
        self.editable = EditableGaussians(start, everything)
        self.growth = Growth(self.cfg.growth, self.editable, self.extent, self.cfg.seed)
        threestudio.info(
            f"{len(self.photos.images)} photographs, {len(self.judges.images)} that judge, {len(start):,} points."
        )

    def _random_points(self, cameras: Cameras) -> tuple[Tensor, Tensor]:
        """Points in the ball that the cameras look into."""
        threestudio.warn("The capture has no sparse points; starting from random ones, which costs detail.")
        draw = generator(self.cfg.seed, 0, Stream.START)
        middle = (cameras.centers + self.extent * cameras.forwards).mean(dim=0)
        points = random_points(self.cfg.num_random_points, middle, self.extent, draw)
        return points, torch.rand(self.cfg.num_random_points, 3, generator=draw)

    def on_fit_start(self) -> None:
        """Lightning hook: photographs go where the Gaussians are."""
        self.photos = self.photos.to(self.device)
        self._begin = time.monotonic()

    def training_step(self, batch: dict, batch_idx: int) -> Tensor:
        """Render one photograph's view and compare."""
        step = self.true_global_step
        self.growth.before_step(step, self.trainer.optimizers[0])
        row = int(view_order(len(self.photos.images), step, 1, self.cfg.seed))
        target, inside = self.photos.images[row][None], self.photos.inside[row][None]
        images, _, info = render_with_info(
            self.editable.scene(), self.photos.cameras[row], self._background, sh_degree=step // self.cfg.sh_every,
            absgrad=self.cfg.growth.absgrad,
        )  # fmt: skip
        self.growth.watch(info, step)
        loss = photometric_loss(images, target, self.cfg.lambda_ssim, inside)
        error = (images.detach() - target)[inside].pow(2).mean()
        self.log("train/psnr", -10 * torch.log10(error), prog_bar=True)
        self.log("train/gaussians", float(len(self.editable)), prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with one group per attribute that moves."""
        return VisibleAdam(self.editable.optimizer_groups(self.cfg.learning_rates))

    def on_after_backward(self) -> None:
        """Lightning hook: gradients on the screen decide what grows."""
        self.growth.record(loss_scale(self.trainer))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Lightning hook: the learning rates of this step."""
        for group in optimizer.param_groups:
            rate = self.cfg.learning_rates[group["name"]]
            is_means = group["name"] == "means"
            group["lr"] = self.C(rate, "exp") * self.extent if is_means else self.C(rate)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Lightning hook: pictures of the progress."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        every = self.cfg.preview_every
        if every and self.global_step % every == 0:
            self.save_image_grid(f"progress/step-{self.global_step:05d}.png", self._rows(self._judge_renders()[:4]))

    def on_fit_end(self) -> None:
        """Lightning hook: how long the steps took."""
        self.train_seconds += time.monotonic() - self._begin

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Lightning hook: the time spent so far goes on in a resumed run."""
        elapsed = time.monotonic() - self._begin if hasattr(self, "_begin") else 0.0
        checkpoint["train_seconds"] = self.train_seconds + elapsed

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Lightning hook: see on_save_checkpoint."""
        self.train_seconds = checkpoint.get("train_seconds", 0.0)

    @torch.no_grad()
    def _judge_renders(self) -> list[Float[Tensor, "_ _ 3"]]:
        return [image.cpu() for image in render_each(self.editable.scene(), self.judges.cameras, self._background)]

    def _rows(self, images: list[Tensor]) -> list:
        """Photographs on top, renders below."""
        return [grid_row(self.judges.images[: len(images)]), grid_row(images)]

    def test_step(self, batch: dict, batch_idx: int) -> None:
        """Compare held-out photographs, write ``grid.png`` and ``report.json``."""
        images = self._judge_renders()
        pairs = [
            (image.permute(2, 0, 1)[None], photo.permute(2, 0, 1)[None], inside[None])
            for image, photo, inside in zip(images, self.judges.images, self.judges.inside, strict=True)
        ]
        similarities = [float(ssim(*pair)) for pair in pairs if min(pair[0].shape[-2:]) >= WINDOW]
        is_held_out = self.judges.cameras.names != self.photos.cameras.names
        self.save_image_grid("grid.png", self._rows(images[:8]))
        self.report = {
            "steps": self.true_global_step,
            "seconds": round(self.train_seconds, 2),
            "num_gaussians": len(self.editable),
            "photos": len(self.photos.images),
            "held_out": self.judges.cameras.names if is_held_out else [],
            "psnr": sum(float(psnr(*pair)) for pair in pairs) / len(pairs),
            "ssim": sum(similarities) / len(similarities) if similarities else None,
            "seed": self.cfg.seed,
            "device": str(self.device),
            "peak_memory_bytes": peak_memory(self.device),
            "versions": package_versions(),
        }
        self.save_json("report.json", self.report)
        what = "held-out photographs" if is_held_out else "the fitted photographs"
        threestudio.info(f"PSNR {self.report['psnr']:.2f} dB on {what}.")

    @torch.no_grad()
    def predict_step(self, batch: dict, batch_idx: int) -> None:
        """Write the splat."""
        path = Path(self.get_save_path("fitted.ply"))
        save_gaussians(self.editable.result().to("cpu"), path)
        self.result_path = str(path)

    @property
    def _background(self) -> Tensor:
        return torch.tensor(list(self.cfg.background), dtype=torch.float32, device=self.device)
