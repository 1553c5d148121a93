"""What happens around the steps of a run: progress, random state, the saved config, Ctrl-C, the last checkpoint."""

import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, ProgressBar
from tqdm import tqdm

from threestudio.checkpoints import WholeCheckpoints, checkpoint_of
from threestudio.errors import InterruptedRun
from threestudio.progress import event
from threestudio.signals import take_over
from threestudio.utils.config import dump_config
from threestudio.utils.config_compare import digests
from threestudio.utils.folders import LEAST_ROOM, check_room, places_to_rescue_to
from threestudio.utils.rng import get_rng_state, set_rng_state


class RngState(Callback):
    """Keeps a resumed run on the random numbers of the uninterrupted one.

    The generators' state goes into each checkpoint, and comes back right before the first step after a resume, when
    nothing else draws any more. Validation gets its own stretch of numbers, so that it never shifts the training.
    """

    def __init__(self) -> None:
        self._to_restore: dict | None = None
        self._after_step: dict | None = None

    def state_dict(self) -> dict:
        """What a checkpoint keeps."""
        return get_rng_state()

    def load_state_dict(self, state_dict: dict) -> None:
        """Take the state of a checkpoint; it is set when the first step starts."""
        self._to_restore = state_dict

    def on_train_batch_start(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Lightning hook."""
        if self._to_restore is not None:
            set_rng_state(self._to_restore)
            self._to_restore = None

    def on_train_batch_end(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Lightning hook; by the time validation announces itself, its data loader has drawn already."""
        if trainer.enable_validation:
            self._after_step = get_rng_state()

    def on_validation_end(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Lightning hook."""
        if self._after_step is not None:
            set_rng_state(self._after_step)


class LastCheckpoint(Callback):
    """Writes ``last.ckpt`` at the last step, whatever the interval of the other checkpoints is.

    Args:
        path: The checkpoint file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)

    def on_train_batch_end(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Lightning hook."""
        if trainer.global_step == trainer.max_steps:
            trainer.save_checkpoint(self.path)


class GracefulInterrupt(Callback):
    """Ctrl-C, SIGTERM, ... during training: the step is finished, a checkpoint written, and ``InterruptedRun`` raised.

    Outside training, and when Ctrl-C is pressed twice, it stops at once; an earlier checkpoint is then the one named.

    Args:
        path: The checkpoint file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._asked: int | None = None
        self._is_training = False

    def handle(self, signum: int, frame: object) -> None:
        """The signal handler.

        Raises:
            InterruptedRun: Where no step is under way, or somebody cannot wait for its end.
        """
        if not self._is_training:
            raise InterruptedRun(checkpoint_of(self.path.parents[1]), signum=signum)
        if self._asked is not None and signum == signal.SIGINT:
            raise InterruptedRun(checkpoint_of(self.path.parents[1]), signum=signum)
        self._asked = signum if self._asked is None else self._asked

    def is_asked(self) -> bool:
        """Whether the run is to stop after this step."""
        return self._asked is not None

    def on_train_start(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Lightning hook; Lightning has just put a handler of its own before this one, which ends without a word."""
        self._is_training = True
        take_over(self.handle)

    def on_train_batch_end(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Lightning hook."""
        if self._is_asked_anywhere(trainer):
            raise InterruptedRun(save_or_rescue(trainer, self.path), signum=self._asked or signal.SIGTERM)

    def _is_asked_anywhere(self, trainer: pl.Trainer) -> bool:
        """Whether this process, or any of those that share the work, is to stop: a checkpoint is written by all."""
        asked = self.is_asked()
        return trainer.strategy.reduce_boolean_decision(asked, all=False) if trainer.world_size > 1 else asked

    def on_train_end(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Lightning hook."""
        self._is_training = False


def save_or_rescue(trainer: pl.Trainer, path: Path) -> str | None:
    """Write a checkpoint; where its place cannot be written, elsewhere, in a folder that can be resumed like a run.

    Returns:
        Its path; that of an earlier one, or None, if it can be written nowhere.
    """
    files, run_dir = trainer.strategy.checkpoint_io, path.parents[1]
    trainer.save_checkpoint(path)
    if not isinstance(files, WholeCheckpoints) or files.failure is None:
        return str(path)
    for place in places_to_rescue_to(run_dir):
        trainer.save_checkpoint(place / path.relative_to(run_dir))
        if files.failure is None:
            for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]  # set by its constructor
                if isinstance(callback, ConfigSnapshotCallback):
                    dump_config(place / Path(callback.path).relative_to(run_dir), callback.cfg)
            return str(place / path.relative_to(run_dir))
    return checkpoint_of(run_dir)


class RoomForResults(Callback):
    """Finds before the first step that the disk has no room for the checkpoints and the result.

    Args:
        run_dir: The run's folder.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self.run_dir = run_dir

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning hook."""
        state = sum(value.nbytes for value in pl_module.state_dict().values() if isinstance(value, torch.Tensor))
        moved = [
            each for optimizer in trainer.optimizers for group in optimizer.param_groups for each in group["params"]
        ]
        moments = 2 * sum(parameter.nbytes for parameter in moved)
        check_room(self.run_dir, LEAST_ROOM + COPIES * (state + moments))


COPIES = 3
"""Checkpoints at a time: the newest, the one before it, and one that is being written."""


class ConfigSnapshotCallback(Callback):
    """Writes the resolved config into the run folder when training starts, and what it says into each checkpoint.

    Args:
        cfg: The whole experiment.
        path: The file.
    """

    def __init__(self, cfg: DictConfig, path: str | Path) -> None:
        self.cfg, self.path = cfg, path
        self._settings = digests(cfg)

    def state_dict(self) -> dict:
        """What a checkpoint keeps: a digest of each value by its key. Values may be nobody's business."""
        return {"settings": self._settings}

    def on_train_start(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Lightning hook."""
        if trainer.is_global_zero:
            dump_config(self.path, self.cfg)


class CustomProgressBar(ProgressBar):
    """Steps done of all, time left, rate, memory, and what the system logs with ``prog_bar=True``.

    In a file or pipe the bar is printed every quarter of a minute, not at every step.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm | None = None
        self._is_enabled, self._read = True, 0.0
        self._process = psutil.Process()

    def disable(self) -> None:
        """Lightning hook: show nothing."""
        self._is_enabled = False

    def memory(self) -> str:
        """Memory in use: reserved on the GPU if there is one, else resident in this process."""
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            return f"{torch.cuda.memory_reserved() / 1e9:.1f} GB GPU"
        if torch.backends.mps.is_available() and torch.mps.current_allocated_memory() > 0:
            return f"{torch.mps.driver_allocated_memory() / 1e9:.1f} GB GPU"
        return f"{self._process.memory_info().rss / 1e9:.1f} GB"

    def _open(self, what: str, total: int | float | None, done: int = 0) -> None:
        is_terminal = sys.stdout.isatty()
        length = total if isinstance(total, int) and total > 0 else None
        self._close()
        self._bar = tqdm(
            desc=what,
            total=length,
            initial=done,
            file=sys.stdout,
            mininterval=0.2 if is_terminal else 15.0,
            dynamic_ncols=is_terminal,
            ncols=None if is_terminal else 100,
            disable=not self._is_enabled,
            leave=True,
        )

    def _advance(self, to: int) -> None:
        if self._bar is None or self._bar.disable:
            return
        now = time.monotonic()
        if now - self._read >= self._bar.mininterval or to == self._bar.total:  # a GPU waits where numbers are read
            metrics = self.get_metrics(self.trainer, self.trainer.lightning_module)
            metrics.pop("v_num", None)
            self._bar.set_postfix({**metrics, "memory": self.memory()}, refresh=False)
            self._read = now
        self._bar.update(to - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_train_start(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Lightning hook."""
        self._open("train", trainer.max_steps, trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Lightning hook."""
        self._advance(trainer.global_step)

    def on_test_start(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Lightning hook."""
        self._open("test", sum(trainer.num_test_batches))

    def on_test_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int, *unused: Any
    ) -> None:
        """Lightning hook."""
        self._advance(batch_idx + 1)

    def on_train_end(self, *unused: Any) -> None:
        """Lightning hook."""
        self._close()

    def on_test_end(self, *unused: Any) -> None:
        """Lightning hook."""
        self._close()

    def on_exception(self, *unused: Any) -> None:
        """Lightning hook: leave the terminal on a fresh line."""
        self._close()


class ProgressEvents(Callback):
    """Steps done of all, time left, and what the system logs, as events for the program that started the run.

    A stage's first and last step are always said, and others at most every ``EVERY`` seconds.
    """

    EVERY = 0.5

    def __init__(self) -> None:
        self._begin = self._said = 0.0
        self._first = 0

    def _start(self, step: int) -> None:
        self._begin, self._said, self._first = time.monotonic(), -self.EVERY, step

    def _say(self, stage: str, trainer: pl.Trainer, step: int, steps: int | float) -> None:
        now, is_last = time.monotonic(), step >= steps
        if now - self._said < self.EVERY and not is_last and step > self._first:
            return
        self._said = now
        done = step - self._first
        eta = (now - self._begin) / done * (steps - step) if done > 0 else None
        metrics = {name: float(value) for name, value in trainer.progress_bar_metrics.items() if name != "v_num"}
        total = int(steps) if 0 < steps < float("inf") else None
        left = None if eta is None or total is None else round(eta, 3)
        event("progress", stage=stage, step=step, steps=total, eta_seconds=left, metrics=metrics)

    def on_train_start(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Lightning hook."""
        self._start(trainer.global_step)
        self._say("train", trainer, trainer.global_step, trainer.max_steps)

    def on_train_batch_end(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Lightning hook."""
        self._say("train", trainer, trainer.global_step, trainer.max_steps)

    def on_test_start(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Lightning hook."""
        self._start(0)
        self._say("test", trainer, 0, sum(trainer.num_test_batches))

    def on_test_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int, *unused: Any
    ) -> None:
        """Lightning hook."""
        self._say("test", trainer, batch_idx + 1, sum(trainer.num_test_batches))

    def on_predict_start(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Lightning hook."""
        self._start(0)
        self._say("export", trainer, 0, sum(trainer.num_predict_batches))

    def on_predict_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int, *unused: Any
    ) -> None:
        """Lightning hook."""
        self._say("export", trainer, batch_idx + 1, sum(trainer.num_predict_batches))
