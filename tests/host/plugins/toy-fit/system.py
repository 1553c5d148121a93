"""A system with every hook that the host promises."""

import os
import random
import signal
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

import threestudio
from threestudio.errors import ConfigError
from threestudio.models.exporters.base import Exporter, ExporterOutput
from threestudio.systems.base import BaseSystem
from threestudio.utils.base import BaseObject


@threestudio.register("toy-guidance")
class ToyGuidance(BaseObject):
    @dataclass
    class Score:
        weight: float = 1.0
        kind: Literal["square", "abs"] = "square"

    @dataclass
    class Config(BaseObject.Config):
        noise: Any = 0.1
        score: "ToyGuidance.Score" = field(default_factory=lambda: ToyGuidance.Score())
        prompt: str = ""

    cfg: Config

    def configure(self) -> None:
        self.steps: list[int] = []
        self.noise = 0.0

    def update_step(self, epoch: int, global_step: int, on_load_weights: bool = False) -> None:
        self.steps.append(global_step)
        self.noise = threestudio.utils.misc.C(self.cfg.noise, epoch, global_step)

    def __call__(self, values: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        drawn = torch.randn_like(values) + random.random() + torch.from_numpy(np.random.rand(len(values))).float()
        error = values - target + self.noise * drawn
        return self.cfg.score.weight * (error.square() if self.cfg.score.kind == "square" else error.abs()).mean()


@threestudio.register("toy-exporter")
class ToyExporter(Exporter):
    cfg: Exporter.Config

    def configure(self, values: torch.Tensor) -> None:
        self.values = values

    def __call__(self) -> list[ExporterOutput]:
        return [ExporterOutput("values", "data", {"data": self.values})]


@threestudio.register("toy-system")
class ToySystem(BaseSystem):
    @dataclass
    class Config(BaseSystem.Config):
        guidance_type: str = "toy-guidance"
        guidance: dict = field(default_factory=dict)
        exporter_type: str = "toy-exporter"
        exporter: dict = field(default_factory=dict)
        size: int = 8
        scene: str | None = None
        lambda_fit: Any = 1.0
        fail_at: Literal["never", "configure", "setup", "fit_start", "step", "test", "bug"] = "never"
        interrupt_at: int = -1
        signal: str = "SIGINT"
        stop_in: str = ""
        exit_code: int = 0

    cannot_change_results = frozenset({
        "system.fail_at", "system.interrupt_at", "system.exit_code", "system.signal", "system.stop_in",
    })  # fmt: skip
    cfg: Config

    def configure(self) -> None:
        self._fail("configure")
        self.values = nn.Parameter(torch.zeros(self.cfg.size))
        self.guidance = threestudio.find(self.cfg.guidance_type)(self.cfg.guidance)

    def _fail(self, where: str) -> None:
        if self.cfg.fail_at == where:
            raise ConfigError(what=f"toy failed at {where}", expected="no failure", fix="set system.fail_at=never")

    def setup(self, stage: str) -> None:
        self._fail("setup")
        self._stop_in("setup")

    def _stop_in(self, where: str) -> None:
        """The signal, in any stage."""
        if self.cfg.stop_in == where:
            os.kill(os.getpid(), getattr(signal, self.cfg.signal))

    def on_fit_start(self) -> None:
        self._fail("fit_start")

    def training_step(self, batch, batch_idx):
        if self.cfg.fail_at == "bug":
            raise RuntimeError("a bug of the toy")
        self._fail("step")
        if self.true_global_step == self.cfg.interrupt_at:
            os.kill(os.getpid(), getattr(signal, self.cfg.signal))
        target = batch * (1 + self.true_global_step % 3)
        loss = self.guidance(self.values, target) * self.C(self.cfg.lambda_fit)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        torch.rand(7)
        self.save_json(f"validated-{self.true_global_step}.json", {"values": self.values})

    def test_step(self, batch, batch_idx):
        self._fail("test")
        self._stop_in("test")
        image = self.values.detach().repeat(16, 2, 1).permute(0, 1, 2)[..., None].expand(16, 2, 8, 3)
        self.save_rgb_image(f"frames/{batch_idx}.png", image.reshape(16, 16, 3))

    def on_test_epoch_end(self) -> None:
        self.save_img_sequence("test", "frames", r"(\d+)\.png")

    def predict_step(self, batch, batch_idx):
        self._stop_in("export")
        exporter = threestudio.find(self.cfg.exporter_type)(self.cfg.exporter, self.values)
        for output in exporter():
            self.result_path = getattr(self, f"save_{output.save_type}")(output.save_name, **output.params)
        self.save_json("report.json", {"step": self.true_global_step})
        self.exit_code = self.cfg.exit_code
