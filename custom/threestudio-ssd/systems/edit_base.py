"""What all systems have in common: the step, the clock, the checkpoint, the check for numbers, the result."""

import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim import Optimizer

import threestudio
from threestudio.systems.base import BaseSystem

from ..cameras import Cameras
from ..edits.edit import CHECK_EVERY, Edit
from ..edits.field_splat import splat_of
from ..edits.gaussian_edit import GaussianEdit, SceneJob
from ..edits.keys import CANNOT_CHANGE_EDITS
from ..errors import ConfigError, StorageError
from ..fields import RadianceField, field_as_gaussians, save_field
from ..fields.io import SUFFIX
from ..gaussians import Gaussians
from ..gaussians.io import save_gaussians
from ..host import VERSION, Completed, Outcome, after_export, after_test, get_device
from ..ranks import Rank
from ..rasterizers.backends import backend_of
from ..report.blend import ROWS
from ..report.command import command_of
from ..report.edit_report import grid_row, package_versions, peak_memory
from ..report.history import write_history
from .identity import Identity, check_same

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
    shares_steps = True
    """See ``BaseSystem``; ``Edit.step`` averages."""
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
        self._good: tuple[int, dict[str, Any]] | None = None
        self._identity: Identity = {}
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

    def identity(self, data: Any) -> Identity:
        """Override: what the run is made of, by name; a checkpoint that was made of anything else is refused.

        Args:
            data: The data module.
        """
        return {}

    @abstractmethod
    def report(self) -> None:
        """Look at the result, measure, and write what the run leaves for people."""

    @abstractmethod
    def export(self) -> str:
        """Write the result; returns its path."""

    def progress_images(self) -> list[Sequence[Float[Tensor, "_ _ 3"]]]:
        """Override: rows of images of where the edit stands."""
        return []

    def scene_now(self) -> Gaussians | None:
        """The scene as it is, for whoever looks on; None where no scene is edited."""
        job = getattr(self, "job", None)
        scene = job.editable.scene().detach() if isinstance(job, SceneJob) else None
        return field_as_gaussians(scene) if isinstance(scene, RadianceField) else scene

    def setup(self, stage: str) -> None:
        """Lightning hook: lay out the edit, once."""
        if not self._is_open:
            self._check_trainer()
            self.automatic_optimization = False
            data: Any = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]  # set late
            self.edit = self.open(data, stage)
            self._identity = self.identity(data)
            if self.trainer.world_size > 1:
                self.edit.join(Rank(self.trainer.global_rank, self.trainer.world_size))
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
        self._keep_good()
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
        """Lightning hook: pictures of the progress; stop when nothing moves, or a parameter is no longer finite."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        every = self.cfg.get("preview_every", 0)
        if every and self.global_step % every == 0:
            self.save_progress()
        if self.global_step % CHECK_EVERY == 0 and (self.edit.is_stuck or not self._keep_good()):
            self.trainer.should_stop = True

    def _keep_good(self) -> bool:
        """Keep the edit as it is, if it is finite, so that there is something to write if it no longer is."""
        if self.edit.is_finite():
            self._good = self.true_global_step, deepcopy(self.edit.state_dict())
            return True
        return False

    @contextmanager
    def beside_the_edit(self, what: str) -> Iterator[None]:
        """Around pictures that are drawn on the way: that they cannot be written costs no step.

        Args:
            what: They are, for the warning.
        """
        try:
            yield
        except (StorageError, OSError) as error:
            threestudio.warn(f"{what} cannot be written, and the edit goes on: {getattr(error, 'what', error)}")
        except Exception as error:
            if type(error).__name__ != StorageError.__name__:  # the host's
                raise
            threestudio.warn(f"{what} cannot be written, and the edit goes on: {getattr(error, 'what', error)}")

    def on_fit_end(self) -> None:
        """Lightning hook: the steps are over."""
        self.clock.stop()

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Lightning hook: the time spent so far goes on in a resumed run, which must be made of the same."""
        checkpoint["train_seconds"] = self.clock.seconds
        checkpoint["made_of"] = dict(self._identity)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Lightning hook: see on_save_checkpoint."""
        check_same(checkpoint.get("made_of", {}), self._identity)
        self.clock.resume(checkpoint.get("train_seconds", 0.0))

    @torch.no_grad()
    def save_progress(self) -> None:
        """Write ``progress/step-<n>.png``."""
        if self.trainer.is_global_zero and (rows := self.progress_images()):
            with self.beside_the_edit("pictures of the progress"):
                self.save_image_grid(f"progress/step-{self.true_global_step:05d}.png", [grid_row(row) for row in rows])

    @torch.no_grad()
    def test_step(self, batch: dict, batch_idx: int) -> None:
        """The report, if there is a result to report on; of several processes the first makes it."""
        if self.is_usable() and self.trainer.is_global_zero:
            self.report()

    @torch.no_grad()
    def predict_step(self, batch: dict, batch_idx: int) -> None:
        """The result, if there is one; the same."""
        if self.is_usable() and self.trainer.is_global_zero:
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
        """Whether there is a finite result. One that the steps did not end with says so, and ends with exit code 3.

        Where the parameters are no longer finite, the edit goes back to when they last were, if it was there.
        """
        if self.edit.is_stuck and self.exit_code != UNUSABLE:
            self.exit_code = UNUSABLE
            threestudio.warn(
                f"Step {self.true_global_step}: the last {int(self.edit.skipped[1])} steps in a row had no finite "
                "loss or gradient; the run ends, and what it was before them is written. Lower the learning rates, or "
                "set system.guidance.dtype=fp32."
            )
        if self.edit.is_finite():
            return True
        good, self._good, self.exit_code = self._good, None, UNUSABLE
        if good is None:
            threestudio.warn(
                f"Step {self.true_global_step}: the edit is not finite; nothing is written. Lower the learning rates."
            )
            return False
        self.edit.load_state_dict(good[1])
        threestudio.warn(
            f"Step {self.true_global_step}: the edit is not finite; what it was at step {good[0]} is written. Lower "
            "the learning rates."
        )
        return True

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
        edit, steps = self.edit, self.true_global_step
        renders = {"renders": steps * edit.views_per_step} if isinstance(edit, GaussianEdit) else {}
        return {
            "schema_version": REPORT_VERSION,
            "seed": self.cfg.seed,
            "steps": steps,
            **renders,
            "skipped_steps": int(self.edit.skipped[0]),
            "command": command_of(self.save_folder.parent),
            "seconds": round(self.clock.seconds, 2),
            "peak_memory_bytes": peak_memory(self.device),
            "device": str(self.device),
            "versions": package_versions(),
        }

    @property
    def save_folder(self) -> Path:
        """Where the results of the run go."""
        return Path(self.get_save_dir())

    def save_splat(self, name: str, gaussians: Gaussians) -> str:
        """Write Gaussians into the run's folder; returns the path."""
        path = Path(self.get_save_path(name))
        save_gaussians(gaussians.to("cpu"), path)
        return str(path)

    def save_field(self, name: str, field: RadianceField, cameras: Cameras, background: Float[Tensor, "3"]) -> str:
        """Write a radiance field into the run's folder, and a splat of it beside; returns the field's path.

        Args:
            name: Of both, without suffix.
            field: The field.
            cameras: Views of one size that the splat is fitted in.
            background: Behind the field.
        """
        path = Path(self.get_save_path(f"{name}{SUFFIX}"))
        save_field(field, path)
        if self.cfg.splat_steps:
            splat = splat_of(field, cameras, background, self.cfg.splat_steps, self.cfg.seed)
            self.save_splat(f"{name}.ply", splat)
        return str(path)

    def save_descent(self, path: str, rows: Int[Tensor, "n"], num_before: int, words: Mapping[str, str]) -> None:
        """Write where the result of an edit of a scene comes from.

        Args:
            path: The result.
            rows: For each of its Gaussians the row of the scene before the edit; for new ones -1, or beyond it.
            num_before: Gaussians of that scene.
            words: Its prompts.
        """
        rows = rows.where(rows < num_before, -1).cpu()
        if not torch.equal(rows, torch.arange(num_before)):
            self.save_data(ROWS, rows)
        facts = {"seed": self.cfg.seed, "steps": self.cfg.num_steps, "config": "../configs/parsed.yaml"}
        versions = {"version": VERSION, "versions": package_versions()}
        write_history(Path(path), self.cfg.scene, {**words, **facts, **versions})


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
