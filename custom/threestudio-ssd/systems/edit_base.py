"""What all systems have in common: the step, the clock, the checkpoint, the check for numbers, the result."""

import time
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim import Optimizer

import threestudio
from threestudio.systems.base import BaseSystem

from ..edits.edit import CHECK_EVERY, Edit
from ..edits.keys import CANNOT_CHANGE_EDITS
from ..errors import ConfigError
from ..gaussians import Gaussians
from ..gaussians.io import save_gaussians
from ..host import Completed, Outcome, after_export, after_test, get_device
from ..rasterizers.backends import backend_of
from ..report.edit_report import grid_row, package_versions, peak_memory

REPORT_VERSION = 1
"""Of what ``report.json`` holds; ``data/schemas/report.schema.json`` says what that is."""
UNUSABLE = 3
"""Exit code of a run that ended without a result to use."""
USUAL_STEPS = {"gradient_clip_val": None, "accumulate_grad_batches": 1}
"""Keys of Lightning's trainer that change steps; an edit makes its own, the same wherever it runs."""


class Clock:
    """Seconds of the steps, over all the runs that it took to make them."""

    def __init__(self) -> None:
        self._before, self._begin = 0.0, None

    def start(self) -> None:
        """Steps begin."""
        self._begin = time.monotonic()

    def stop(self) -> None:
        """Steps are over."""
        self._before, self._begin = self.seconds, None

    def resume(self, seconds: float) -> None:
        """What earlier runs took."""
        self._before = seconds

    @property
    def seconds(self) -> float:
        """All so far."""
        return self._before + (time.monotonic() - self._begin if self._begin is not None else 0.0)


class EditSystem(Completed, BaseSystem, Outcome):
    """Runs one edit through Lightning: a subclass says what is edited (``make``, ``open``) and what is reported."""

    cannot_change_results = CANNOT_CHANGE_EDITS | {"data.num_test_views", "data.test_size"}
    """See ``BaseSystem``; views that only the report shows are none of the edit's."""
    edit: Edit
    """What is optimised, once it was laid out."""
    renders: bool = True
    """Whether splats are rendered."""
    progress_bar: Sequence[str] = ("score",)
    """Which facts of a step the progress bar names."""

    def configure(self) -> None:
        """Read what is edited and load the model; everything that can be wrong is found here, before any work."""
        self.clock = Clock()
        self.verdicts: list[str] = []
        self._is_open = False
        if self.renders:
            backend_of(get_device().type)  # says now what a rasteriser that cannot be had will cost
        self.make()

    @abstractmethod
    def make(self) -> None:
        """Build everything that needs no data."""

    @abstractmethod
    def open(self, data: Any, stage: str) -> Edit:
        """Lay out the edit.

        Args:
            data: The data module.
            stage: Lightning's: fit, validate, test or predict.
        """

    @abstractmethod
    def report(self) -> None:
        """Look at the result, measure, and write what the run leaves for people."""

    @abstractmethod
    def export(self) -> str:
        """Write the result; returns its path."""

    def progress_images(self) -> list[Sequence[Float[Tensor, "h w 3"]]]:
        """Override: rows of images of where the edit stands."""
        return []

    def setup(self, stage: str) -> None:
        """Lightning hook: lay out the edit, once."""
        if not self._is_open:
            self._check_trainer()
            self.automatic_optimization = False
            self.edit = self.open(self.trainer.datamodule, stage)  # pyright: ignore[reportAttributeAccessIssue]  # set late
            self._is_open = True

    def _check_trainer(self) -> None:
        for key, usual in USUAL_STEPS.items():
            if getattr(self.trainer, key) != usual:
                raise ConfigError(
                    what=f"trainer.{key} is {getattr(self.trainer, key)}, and an edit makes its own steps",
                    expected="it left out", fix=f"remove trainer.{key}; data.batch_size shows more views a step",
                )  # fmt: skip

    def on_fit_start(self) -> None:
        """Lightning hook: everything known before the loop is computed before the loop."""
        self.edit.prepare()
        self.clock.start()

    def configure_optimizers(self) -> list[Optimizer]:
        """Those of the edit."""
        return self.edit.make_optimizers()

    def training_step(self, batch: dict, batch_idx: int) -> None:
        """One step of the edit; Lightning scales, counts and logs."""
        optimizers, counted = self.trainer.optimizers, cast(LightningOptimizer, self.optimizers())
        facts = self.edit.step(
            self.true_global_step, optimizers, backward=self._backward, apply=lambda _: counted.step(),
            loss_scale=loss_scale(self.trainer),
        )  # fmt: skip
        for name, value in facts.items():
            self.log(f"train/{name}", value, prog_bar=name in self.progress_bar)

    def _backward(self, loss: Tensor) -> None:
        """Gradients in the precision of the forward pass; autocast is for that pass alone."""
        with torch.autocast(self.device.type, enabled=False):
            self.manual_backward(loss)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Lightning hook: pictures of the progress; stop at once when a parameter is no longer finite."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        every = self.cfg.get("preview_every", 0)
        if every and self.global_step % every == 0:
            self.save_progress()
        if self.global_step % CHECK_EVERY == 0 and not self.is_usable():
            self.trainer.should_stop = True

    def on_fit_end(self) -> None:
        """Lightning hook: the steps are over."""
        self.clock.stop()

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Lightning hook: the time spent so far goes on in a resumed run."""
        checkpoint["train_seconds"] = self.clock.seconds

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Lightning hook: see on_save_checkpoint."""
        self.clock.resume(checkpoint.get("train_seconds", 0.0))

    @torch.no_grad()
    def save_progress(self) -> None:
        """Write ``progress/step-<n>.png``."""
        if rows := self.progress_images():
            self.save_image_grid(f"progress/step-{self.true_global_step:05d}.png", [grid_row(row) for row in rows])

    @torch.no_grad()
    def test_step(self, batch: dict, batch_idx: int) -> None:
        """The report, if there is a result to report on."""
        if self.is_usable():
            self.report()

    @torch.no_grad()
    def predict_step(self, batch: dict, batch_idx: int) -> None:
        """The result, if there is one."""
        if self.is_usable():
            self.result_path = self.export()

    def on_validation_epoch_end(self) -> None:
        """Lightning hook: a step showed everything, and nothing is left to gather."""

    def on_test_end(self) -> None:
        """Lightning hook: not every host has a stage for the result after this one."""
        after_test(self)

    def on_predict_end(self) -> None:
        """Lightning hook: the result is written; what a user must know of it stands in the last lines."""
        self.say_verdicts()
        after_export(self)

    def outcome(self) -> tuple[int, str | None]:
        """See ``BaseSystem``; where nothing was exported, what must be known of the result is said now."""
        self.say_verdicts()
        return super().outcome()

    def say_verdicts(self) -> None:
        """Warn of what the report found wrong with the result, once."""
        for verdict in self.verdicts:
            threestudio.warn(verdict)
        self.verdicts = []

    def is_usable(self) -> bool:
        """Whether every parameter is finite; if not, says so once, and the run ends with exit code 3."""
        if self.edit.is_finite():
            return True
        if self.exit_code != UNUSABLE:
            threestudio.warn(
                f"Step {self.true_global_step}: the edit is not finite; nothing is written. Lower the learning rates."
            )
        self.exit_code = UNUSABLE
        return False

    def warn_unless_visible(self, is_visible: bool, advice: str) -> None:
        """A run that changed nothing anyone could see ends with exit code 3.

        Args:
            is_visible: Whether it did.
            advice: What to do about it.
        """
        if not is_visible:
            self.verdicts = [f"The edit changed nothing visible: {advice}."]
            self.exit_code = UNUSABLE

    def run_facts(self) -> dict[str, Any]:
        """What every report says of the run."""
        return {
            "schema_version": REPORT_VERSION,
            "seed": self.cfg.seed,
            "steps": self.true_global_step,
            "seconds": round(self.clock.seconds, 2),
            "peak_memory_bytes": peak_memory(self.device),
            "device": str(self.device),
            "versions": package_versions(),
        }

    def save_splat(self, name: str, gaussians: Gaussians) -> str:
        """Write Gaussians into the run's folder; returns the path."""
        path = Path(self.get_save_path(name))
        save_gaussians(gaussians.to("cpu"), path)
        return str(path)


def loss_scale(trainer: Any) -> float:
    """What a trainer's gradient scaler (``trainer.precision=16-mixed``) multiplies losses with; 1 without one."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return scaler.get_scale() if scaler is not None else 1.0


def splat_suffix(path: str) -> str:
    """Suffix of a splat file, ``.compressed.ply`` whole; formats that cannot be written become ``.ply``."""
    name = Path(path).name.lower()
    if name.endswith(".compressed.ply"):
        return ".compressed.ply"
    suffix = Path(name).suffix
    return suffix if suffix in (".ply", ".splat", ".spz", ".sog") else ".ply"
