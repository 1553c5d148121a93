"""The base of every system: config, step, schedules, optimiser, resume, and how a run ended."""

from collections.abc import Iterable
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig

from threestudio.errors import ConfigError
from threestudio.systems.config import SystemConfig
from threestudio.systems.utils import parse_optimizer, parse_scheduler
from threestudio.utils.base import Updateable, update_end_if_possible, update_if_possible
from threestudio.utils.config import parse_structured
from threestudio.utils.misc import C, cleanup, load_module_weights
from threestudio.utils.saving import SaverMixin


class BaseSystem(pl.LightningModule, Updateable, SaverMixin):
    """What a run optimises: subclasses build in ``configure`` and say the loss in ``training_step``.

    Args:
        cfg: Keys of ``Config``; unknown ones raise ``ConfigError``.
    """

    Config = SystemConfig
    cannot_change_results: frozenset[str] = frozenset()
    """Dotted keys of the experiment, each with all below it, that a resumed run may change: they decide how a run is
    looked at, never its result."""
    shares_steps = False
    """Whether several processes can make each step together without Lightning's wrapper around the system: it averages
    its gradients itself."""
    cfg: Any

    def __init__(self, cfg: dict | DictConfig | None = None) -> None:
        super().__init__()
        self.cfg = parse_structured(self.Config, cfg)
        self._refuse_unread_keys()
        self._loaded_at: tuple[int, int] | None = None
        self.exit_code = 0
        self.result_path: str | None = None
        self.configure()
        if self.cfg.weights is not None:
            self.load_weights(self.cfg.weights, self.cfg.weights_ignore_modules)

    def configure(self) -> None:
        """Override to build the system's members from ``self.cfg``."""

    def outcome(self) -> tuple[int, str | None]:
        """How the run ended: the exit code (0, or 3 for a run without a usable result) and the last line printed.

        By default the attributes ``exit_code`` and ``result_path``, which a system sets as it exports.
        """
        return self.exit_code, self.result_path

    def load_weights(self, weights: str, ignore_modules: Iterable[str] | None = None) -> None:
        """Load the weights of a checkpoint and bring members to its step; keys it lacks stay as they are."""
        state, epoch, global_step = load_module_weights(weights, ignore_modules=ignore_modules, map_location="cpu")
        self.load_state_dict(state, strict=False)
        self.do_update_step(epoch, global_step, on_load_weights=True)

    def set_resume_status(self, current_epoch: int, global_step: int) -> None:
        """Say where the loaded checkpoint stood; the trainer itself starts at 0 when it only tests or exports."""
        self._loaded_at = (current_epoch, global_step)

    @property
    def true_global_step(self) -> int:
        """Optimisation steps done, also when only testing or exporting a checkpoint."""
        return self._loaded_at[1] if self._loaded_at is not None else self.global_step

    @property
    def true_current_epoch(self) -> int:
        """Epochs done, also when only testing or exporting a checkpoint."""
        return self._loaded_at[0] if self._loaded_at is not None else self.current_epoch

    def C(self, value: Any, interpolation: str = "linear") -> float:
        """The value of a number or schedule at this step; forms in :mod:`threestudio.utils.schedule`."""
        return C(value, self.true_current_epoch, self.true_global_step, interpolation)

    def configure_optimizers(self) -> dict:
        """The optimiser and scheduler that the config says; override to build others."""
        optimizer = parse_optimizer(self.cfg.optimizer, self)
        if self.cfg.scheduler is None:
            return {"optimizer": optimizer}
        return {"optimizer": optimizer, "lr_scheduler": parse_scheduler(self.cfg.scheduler, optimizer)}

    def _refuse_unread_keys(self) -> None:
        """A system that builds its own optimiser reads neither ``optimizer`` nor ``scheduler``.

        Raises:
            ConfigError: If one of them is set all the same.
        """
        if type(self).configure_optimizers is BaseSystem.configure_optimizers:
            return
        for key in ("optimizer", "scheduler"):
            if self.cfg[key]:
                what = f"system.{key} is set, but {type(self).__name__} builds its own optimiser"
                expected, fix = "the keys of this system for its learning rates", f"remove system.{key}"
                raise ConfigError(what=what, expected=expected, fix=fix)

    def on_train_batch_start(self, batch: Any, batch_idx: int, unused: int = 0) -> None:
        """Lightning hook: bring data and members to this step."""
        self._start_step(self.trainer.train_dataloader)

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Lightning hook: bring data and members to this step."""
        self._start_step(self.trainer.val_dataloaders)

    def on_test_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Lightning hook: bring data and members to this step."""
        self._start_step(self.trainer.test_dataloaders)

    def on_predict_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Lightning hook: bring data and members to this step."""
        self._start_step(self.trainer.predict_dataloaders)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Lightning hook: tell data and members that the step is over."""
        self._end_step(self.trainer.train_dataloader)

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Lightning hook: tell data and members that the step is over."""
        self._end_step(self.trainer.val_dataloaders)
        if self.cfg.cleanup_after_validation_step:
            cleanup()

    def on_test_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Lightning hook: tell data and members that the step is over."""
        self._end_step(self.trainer.test_dataloaders)
        if self.cfg.cleanup_after_test_step:
            cleanup()

    def _start_step(self, loader: Any) -> None:
        dataset = getattr(loader, "dataset", None)
        update_if_possible(dataset, self.true_current_epoch, self.true_global_step)
        self.do_update_step(self.true_current_epoch, self.true_global_step)

    def _end_step(self, loader: Any) -> None:
        update_end_if_possible(getattr(loader, "dataset", None), self.true_current_epoch, self.true_global_step)
        self.do_update_step_end(self.true_current_epoch, self.true_global_step)
