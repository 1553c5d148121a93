"""The system: validation, test and export that a subclass does not define raise, and so does gathering."""

from dataclasses import dataclass, field

import pytorch_lightning as pl

from threestudio.utils.base import Updateable, update_end_if_possible, update_if_possible
from threestudio.utils.config import parse_structured
from threestudio.utils.misc import C, cleanup
from threestudio.utils.saving import SaverMixin


class BaseSystem(pl.LightningModule, Updateable, SaverMixin):
    @dataclass
    class Config:
        loggers: dict = field(default_factory=dict)
        loss: dict = field(default_factory=dict)
        optimizer: dict = field(default_factory=dict)
        scheduler: dict | None = None
        weights: str | None = None
        weights_ignore_modules: list[str] | None = None
        cleanup_after_validation_step: bool = False
        cleanup_after_test_step: bool = False

    def __init__(self, cfg, resumed=False):
        super().__init__()
        self.cfg = parse_structured(self.Config, cfg)
        self._save_dir = None
        self._resumed = resumed
        self._resumed_eval = False
        self._resumed_eval_status = {"global_step": 0, "current_epoch": 0}
        if "loggers" in cfg:
            self.create_loggers(cfg.loggers)
        self.configure()
        self.post_configure()

    def set_resume_status(self, current_epoch, global_step):
        self._resumed_eval = True
        self._resumed_eval_status = {"global_step": global_step, "current_epoch": current_epoch}

    @property
    def resumed(self):
        return self._resumed

    @property
    def true_global_step(self):
        return self._resumed_eval_status["global_step"] if self._resumed_eval else self.global_step

    @property
    def true_current_epoch(self):
        return self._resumed_eval_status["current_epoch"] if self._resumed_eval else self.current_epoch

    def configure(self):
        pass

    def post_configure(self):
        pass

    def C(self, value):
        return C(value, self.true_current_epoch, self.true_global_step)

    def training_step(self, batch, batch_idx):
        raise NotImplementedError

    def validation_step(self, batch, batch_idx):
        raise NotImplementedError

    def on_validation_epoch_end(self):
        raise NotImplementedError

    def test_step(self, batch, batch_idx):
        raise NotImplementedError

    def on_test_epoch_end(self):
        pass

    def predict_step(self, batch, batch_idx):
        raise NotImplementedError

    def on_predict_epoch_end(self):
        pass

    def preprocess_data(self, batch, stage):
        pass

    def _start(self, loader, batch, stage):
        self.preprocess_data(batch, stage)
        self.dataset = loader.dataset
        update_if_possible(self.dataset, self.true_current_epoch, self.true_global_step)
        self.do_update_step(self.true_current_epoch, self.true_global_step)

    def _end(self, loader, is_cleaned=False):
        self.dataset = loader.dataset
        update_end_if_possible(self.dataset, self.true_current_epoch, self.true_global_step)
        self.do_update_step_end(self.true_current_epoch, self.true_global_step)
        if is_cleaned:
            cleanup()

    def on_train_batch_start(self, batch, batch_idx, unused=0):
        self._start(self.trainer.train_dataloader, batch, "train")

    def on_validation_batch_start(self, batch, batch_idx, dataloader_idx=0):
        self._start(self.trainer.val_dataloaders, batch, "validation")

    def on_test_batch_start(self, batch, batch_idx, dataloader_idx=0):
        self._start(self.trainer.test_dataloaders, batch, "test")

    def on_predict_batch_start(self, batch, batch_idx, dataloader_idx=0):
        self._start(self.trainer.predict_dataloaders, batch, "predict")

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self._end(self.trainer.train_dataloader)

    def on_validation_batch_end(self, outputs, batch, batch_idx):
        self._end(self.trainer.val_dataloaders, self.cfg.cleanup_after_validation_step)

    def on_test_batch_end(self, outputs, batch, batch_idx):
        self._end(self.trainer.test_dataloaders, self.cfg.cleanup_after_test_step)

    def on_predict_batch_end(self, outputs, batch, batch_idx):
        self._end(self.trainer.predict_dataloaders, self.cfg.cleanup_after_test_step)

    def update_step(self, epoch, global_step, on_load_weights=False):
        pass

    def on_before_optimizer_step(self, optimizer):
        pass
