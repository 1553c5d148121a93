"""One experiment, from its config to its exit code: data, system, Lightning's trainer, run folder."""

import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.utilities.model_helpers import is_overridden

from threestudio import progress, registry
from threestudio.errors import CheckpointError, ConfigError, is_user_error
from threestudio.log import info, logger, warn
from threestudio.systems.base import BaseSystem
from threestudio.systems.utils import plain_keys
from threestudio.utils.callbacks import (
    ConfigSnapshotCallback,
    CustomProgressBar,
    GracefulInterrupt,
    LastCheckpoint,
    ProgressEvents,
    RngState,
)
from threestudio.utils.config import file_name
from threestudio.utils.config_compare import CANNOT_CHANGE_RESULTS, difference, settings
from threestudio.utils.config_files import read_file
from threestudio.utils.misc import get_device, load_checkpoint, use_device

CONFIG_OF_RUN = Path("configs", "parsed.yaml")
"""Where a run folder keeps its config."""
TRAINER_DEFAULTS = {
    "devices": 1,
    "max_epochs": -1,
    "inference_mode": False,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "log_every_n_steps": 10,
}
ACCELERATORS = {"auto": None, "cpu": "cpu", "gpu": "cuda", "cuda": "cuda", "mps": "mps"}
"""What ``trainer.accelerator`` may say -> the device that it means; None: the usual one."""
AFTER_TRAINING = {
    "validate": ("validate", "validation_step", "val_dataloader"),
    "test": ("test", "test_step", "test_dataloader"),
    "export": ("predict", "predict_step", "predict_dataloader"),
}
"""Stage -> Lightning's name for it, and what a system and its data need for it."""
MAY_CHANGE_ON_RESUME = frozenset({"trainer.max_steps", "trainer.accelerator", "trainer.devices"})
"""How far a run goes, and on what; beside the keys that cannot change a result."""
CHECKPOINT_DEFAULTS = {"save_last": True, "save_top_k": 0, "every_n_train_steps": 100, "save_on_train_epoch_end": False}


def run_experiment(cfg: DictConfig, stages: list[str]) -> int:
    """Build data and system and go through the stages.

    Args:
        cfg: A completed ``ExperimentConfig``.
        stages: Of ``train``, ``validate``, ``test``, ``export``, in order.

    Returns:
        The exit code the system gives. The last line on standard output is its result's path.

    Raises:
        ConfigError: For input that cannot be used; no run folder is left behind then.
    """
    quiet_lightning()
    accelerator = cfg.trainer.get("accelerator", "auto")
    use_device(ACCELERATORS.get(accelerator, accelerator))
    checkpoint = resolve_resume(cfg, is_training="train" in stages)
    if checkpoint is not None:
        load_checkpoint(checkpoint)
        check_same_run(cfg, Path(checkpoint).parent.parent)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    run_dir = Path(cfg.trial_dir)
    check_writable(run_dir)
    interrupt = GracefulInterrupt(run_dir / "ckpts" / "last.ckpt")
    interrupt.install()
    was_there = run_dir.exists()
    trainer = system = None
    try:
        datamodule = registry.find(cfg.data_type)(cfg.data)
        system = registry.find(cfg.system_type)(cfg.system)
        system.set_save_dir(run_dir / "save")
        trainer = build_trainer(cfg, interrupt, is_training="train" in stages)
        _go_through(stages, trainer, system, datamodule, checkpoint)
    except Exception as error:
        if is_user_error(error) and not was_there and (trainer is None or trainer.global_step == 0):
            _remove_run_folder(run_dir)
        elif system is not None:
            _say_result(system)
        raise
    finally:
        interrupt.remove()
    _say_result(system)
    return system.outcome()[0]


def quiet_lightning() -> None:
    """Silence Lightning's tips and notes, but where detail is asked for; it sets its own levels while imported."""
    if logger.isEnabledFor(logging.DEBUG):
        return
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _say_result(system: BaseSystem) -> None:
    """Print where the result is, if there is one."""
    last_line = system.outcome()[1]
    if last_line:
        progress.event("result", path=str(last_line))
        sys.stdout.write(f"{last_line}\n")
        sys.stdout.flush()


def build_trainer(cfg: DictConfig, interrupt: GracefulInterrupt, is_training: bool) -> pl.Trainer:
    """Lightning's trainer with our callbacks; keys under ``trainer`` and ``checkpoint`` win over the defaults."""
    run_dir = Path(cfg.trial_dir)
    keys = {**TRAINER_DEFAULTS, **plain_keys(cfg.trainer), "accelerator": get_device().type}
    if cfg.n_gpus > 1:
        keys.setdefault("strategy", "ddp")
        keys["devices"] = cfg.n_gpus
    callbacks: list[Callback] = [RngState()]
    if progress.is_json():
        keys["enable_progress_bar"] = False
        callbacks.append(ProgressEvents())
    elif keys.get("enable_progress_bar", True):
        callbacks.append(CustomProgressBar())
    loggers: list | bool = False
    if is_training:
        checkpoint = {**CHECKPOINT_DEFAULTS, **plain_keys(cfg.checkpoint)}
        callbacks += [
            ConfigSnapshotCallback(cfg, run_dir / CONFIG_OF_RUN),
            ModelCheckpoint(dirpath=str(run_dir / "ckpts"), enable_version_counter=False, **checkpoint),
            LastCheckpoint(run_dir / "ckpts" / "last.ckpt"),
            interrupt,
        ]
        loggers = [TensorBoardLogger(str(run_dir), name="tb_logs"), CSVLogger(str(run_dir), name="csv_logs")]
    return pl.Trainer(callbacks=callbacks, logger=loggers, default_root_dir=str(run_dir), **keys)


def resolve_resume(cfg: DictConfig, is_training: bool) -> str | None:
    """The checkpoint to load, or None to start anew; sets the run folder of ``cfg`` to where the results belong.

    ``auto`` is the run folder's ``last.ckpt``; with a timestamp, that of the newest folder of this name and tag.
    Training without any starts anew; the other stages need one.

    Raises:
        CheckpointError: If the named checkpoint does not exist, or one is needed and there is none.
    """
    wanted = cfg.resume if cfg.resume is not None or is_training else "auto"
    if wanted is None:
        return None
    if wanted != "auto":
        path = Path(wanted)
        load_checkpoint(path)
        if not is_training and path.parent.name == "ckpts":
            _set_run_folder(cfg, path.parents[1])
        return str(path)
    runs = [Path(cfg.trial_dir)]
    if cfg.use_timestamp:
        runs += Path(cfg.exp_dir).glob(f"{file_name(cfg.tag)}@*")
    checkpoints = [run / "ckpts" / "last.ckpt" for run in runs if (run / "ckpts" / "last.ckpt").is_file()]
    if checkpoints:
        newest = max(checkpoints, key=lambda path: path.stat().st_mtime)
        _set_run_folder(cfg, newest.parents[1])
        info(f"going on from {newest}")
        return str(newest)
    if is_training:
        info(f"no checkpoint in {cfg.trial_dir} yet: starting anew")
        return None
    expected, fix = "a run that was trained before", "train first, or name a checkpoint with --resume PATH"
    raise CheckpointError(what=f"there is no checkpoint in {cfg.trial_dir}", expected=expected, fix=fix)


def check_same_run(cfg: DictConfig, run_dir: Path) -> None:
    """Refuse to go on from a run whose config gives another result; a folder without its config cannot be asked.

    Args:
        cfg: A completed ``ExperimentConfig``.
        run_dir: The run's folder.

    Raises:
        CheckpointError: For the first key that differs, or that only one side has.
    """
    saved = run_dir / CONFIG_OF_RUN
    if not saved.is_file():
        return
    without = CANNOT_CHANGE_RESULTS | MAY_CHANGE_ON_RESUME | registry.find(cfg.system_type).cannot_change_results
    changed = difference(settings(read_file(saved), without), settings(cfg, without))
    if changed is not None:
        fix = "resume without that change, or set another tag and start anew, without --resume"
        raise CheckpointError(what=f"{run_dir} was made {changed}", expected="the config of that run", fix=fix)


def _go_through(
    stages: list[str], trainer: pl.Trainer, system: BaseSystem, data: pl.LightningDataModule, checkpoint: str | None
) -> None:
    """Run the stages that system and data have; a stage that was asked for by name must be there."""
    if "train" in stages:
        with _fitting(checkpoint):
            trainer.fit(system, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        checkpoint = None
    elif checkpoint is not None:
        status = load_checkpoint(checkpoint)
        system.set_resume_status(status["epoch"], status["global_step"])
    asked = [stage for stage in AFTER_TRAINING if stage in stages]
    there = [stage for stage in asked if _can(stage, system, data)]
    if len(stages) == 1 and asked != there:
        stage, (_, step, loader) = asked[0], AFTER_TRAINING[asked[0]]
        what = f"{type(system).__name__} with {type(data).__name__} cannot {stage}"
        expected, fix = f"a system with {step} and data with {loader}", "choose another stage"
        raise ConfigError(what=what, expected=expected, fix=fix)
    _finish(there, trainer, model=system, datamodule=data, ckpt_path=checkpoint, weights_only=True)


@contextmanager
def _fitting(checkpoint: str | None) -> Iterator[None]:
    """Say in one line that a checkpoint is of another scene, system or version."""
    try:
        yield
    except RuntimeError as cause:
        if checkpoint is None or "loading state_dict" not in str(cause):
            raise
        what = f"{checkpoint} does not fit this config: {str(cause).splitlines()[-1].strip()}"
        fix = "resume with the config of that run (configs/parsed.yaml in its folder), or train again"
        expected = "a checkpoint of the same scene, system and version"
        raise CheckpointError(what=what, expected=expected, fix=fix) from cause


def _finish(stages: list[str], trainer: pl.Trainer, **options: Any) -> None:
    """Run the stages after the training. One that fails does not stop those behind it: no report costs a result.

    Args:
        stages: Of ``AFTER_TRAINING``, in order.
        trainer: Lightning's.
        **options: What all of its stages take.
    """
    if not stages:
        return
    stage, *others = stages
    extra = {"return_predictions": False} if stage == "export" else {"verbose": False}
    start = getattr(trainer, AFTER_TRAINING[stage][0])
    try:
        with _fitting(options["ckpt_path"]):
            start(**options, **extra)
    except Exception as error:
        if others:
            warn(f"{stage} failed ({type(error).__name__}); going on to {others[0]}, so that the result is not lost")
            _finish(others, trainer, **options)
        raise
    _finish(others, trainer, **options)


def _can(stage: str, system: BaseSystem, data: pl.LightningDataModule) -> bool:
    _, step, loader = AFTER_TRAINING[stage]
    has_loader = is_overridden(loader, data, parent=pl.LightningDataModule)
    return has_loader and is_overridden(step, system, parent=pl.LightningModule)


def _set_run_folder(cfg: DictConfig, run_dir: Path) -> None:
    cfg.trial_dir, cfg.trial_name, cfg.exp_dir = str(run_dir), run_dir.name, str(run_dir.parent)


def check_writable(run_dir: Path) -> None:
    """Find that the run folder cannot be made or written before any work; it is made only when something is written.

    Raises:
        ConfigError: If it cannot.
    """
    made: list[Path] = []
    try:
        made = [folder for folder in (run_dir, *run_dir.parents) if not folder.exists()]
        run_dir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=run_dir).close()
    except OSError as cause:
        what = f"the run folder {run_dir} cannot be written ({cause.strerror})"
        fix = "set exp_root_dir to a folder of yours"
        raise ConfigError(what=what, expected="a folder that can be made and written", fix=fix) from cause
    finally:
        for folder in made:
            if folder.is_dir():
                folder.rmdir()


def _remove_run_folder(run_dir: Path) -> None:
    """Remove the folder that this run made, and the folders above it that are empty without it."""
    shutil.rmtree(run_dir, ignore_errors=True)
    for parent in list(run_dir.parents)[:2]:
        if parent != Path() and parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
