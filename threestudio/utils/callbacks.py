"""What happens around the steps of a run: progress, random state, the saved config, Ctrl-C, the last checkpoint."""

import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, ProgressBar
from tqdm import tqdm

from threestudio.errors import InterruptedRun
from threestudio.progress import event
from threestudio.utils.config import dump_config
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
    """Ctrl-C during training: the step is finished, a checkpoint written, and ``InterruptedRun`` raised.

    Outside training, and when it is pressed twice, it stops at once; an earlier checkpoint is then the one named.

    Args:
        path: The checkpoint file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._is_asked = False
        self._is_training = False
        self._previous: Any = None

    def handle(self, signum: int, frame: object) -> None:
        """The signal handler."""
        if self._is_asked or not self._is_training:
            raise InterruptedRun(self.path if Path(self.path).is_file() else None)
        self._is_asked = True

    def install(self) -> None:
        """Take over Ctrl-C; only the main thread may, elsewhere nothing changes."""
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self.handle)

    def remove(self) -> None:
        """Give Ctrl-C back to who had it."""
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def on_train_start(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Lightning hook."""
        self._is_training = True

    def on_train_batch_end(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Lightning hook."""
        if self._is_asked:
            trainer.save_checkpoint(self.path)
            raise InterruptedRun(self.path)

    def on_train_end(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Lightning hook."""
        self._is_training = False


class ConfigSnapshotCallback(Callback):
    """Writes the resolved config into the run folder when training starts.

    Args:
        cfg: The whole experiment.
        path: The file.
    """

    def __init__(self, cfg: DictConfig, path: str | Path) -> None:
        self.cfg, self.path = cfg, path

    def on_train_start(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Lightning hook."""
        dump_config(self.path, self.cfg)


class CustomProgressBar(ProgressBar):
    """Steps done of all, time left, rate, memory, and what the system logs with ``prog_bar=True``.

    In a file or pipe the bar is printed every quarter of a minute, not at every step.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm | None = None
        self._is_enabled = True
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
        if self._bar is not None and not self._bar.disable:
            metrics = self.get_metrics(self.trainer, self.trainer.lightning_module)
            metrics.pop("v_num", None)
            self._bar.set_postfix({**metrics, "memory": self.memory()}, refresh=False)
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
