"""One experiment, from its config to its exit code: data, system, Lightning's trainer, run folder."""

import logging
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.model_helpers import is_overridden

from threestudio import progress, registry
from threestudio.checkpoints import WholeCheckpoints, checkpoint_of, newest_checkpoint, resumed_file, set_aside_broken
from threestudio.errors import (
    CheckpointError,
    ConfigError,
    InterruptedRun,
    OutOfMemory,
    StorageError,
    first_line,
    is_storage_error,
    is_user_error,
)
from threestudio.log import info, is_first_process, logger, warn
from threestudio.loggers import LastingCSV, LastingTensorBoard
from threestudio.run_folder import CONFIG_OF_RUN, set_run_folder
from threestudio.signals import stopping
from threestudio.systems.base import BaseSystem
from threestudio.systems.utils import plain_keys
from threestudio.utils.callbacks import (
    ConfigSnapshotCallback,
    CustomProgressBar,
    GracefulInterrupt,
    LastCheckpoint,
    ProgressEvents,
    RngState,
    RoomForResults,
)
from threestudio.utils.config import file_name
from threestudio.utils.config_compare import CANNOT_CHANGE_RESULTS, difference, differing_key, digests, settings
from threestudio.utils.config_files import read_file
from threestudio.utils.folders import check_room, places_to_rescue_to, remove_run_folder, sole_use
from threestudio.utils.memory import allocation_failure
from threestudio.utils.misc import get_device, load_checkpoint, use_device
from threestudio.utils.saving import remove_left_behind

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
ELSEWHERE = 4
"""Exit code of a run whose result is whole, but not in its folder, or without its report: that cannot be written."""
MAY_CHANGE_ON_RESUME = frozenset({"trainer.max_steps", "trainer.accelerator", "trainer.devices", "trainer.strategy"})
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
        check_same_run(cfg, Path(checkpoint))
    run_dir = Path(cfg.trial_dir)
    was_there = run_dir.exists()
    with _prepared(run_dir, checkpoint if "train" in stages else None) if is_first_process() else nullcontext():
        pl.seed_everything(cfg.seed, workers=True, verbose=False)
        return _run_in(run_dir, cfg, stages, checkpoint, was_there)


@contextmanager
def _prepared(run_dir: Path, checkpoint: str | None) -> Iterator[None]:
    """A folder with room for the run, that is this run's alone and holds nothing that a killed one left half done."""
    check_room(run_dir)
    with sole_use(run_dir):
        remove_left_behind(run_dir)
        if checkpoint is not None:
            set_aside_broken(Path(checkpoint))
        yield


def _run_in(run_dir: Path, cfg: DictConfig, stages: list[str], checkpoint: str | None, was_there: bool) -> int:
    """The same, in a folder that is this run's alone."""
    interrupt = GracefulInterrupt(run_dir / "ckpts" / "last.ckpt")
    trainer = system = None
    with stopping(interrupt.handle):
        try:
            datamodule = registry.find(cfg.data_type)(cfg.data)
            system = registry.find(cfg.system_type)(cfg.system)
            system.set_save_dir(run_dir / "save")
            trainer = build_trainer(cfg, interrupt, is_training="train" in stages, shares_steps=system.shares_steps)
            _go_through(stages, trainer, system, datamodule, checkpoint)
        except InterruptedRun as stop:
            if stop.checkpoint is None and not was_there and is_first_process():
                remove_run_folder(run_dir)
            raise
        except Exception as error:
            num_steps = 0 if trainer is None else trainer.global_step
            if is_user_error(error) and not was_there and num_steps == 0:
                if is_first_process():
                    remove_run_folder(run_dir)
            elif system is not None:
                _say_result(system)
            if (shortage := allocation_failure(error)) is not None:
                raise _out_of_memory(shortage, _stage_of(trainer), run_dir) from error
            raise
    _say_result(system)
    return system.outcome()[0]


def _stage_of(trainer: pl.Trainer | None) -> str:
    """What a run was at, in words."""
    if trainer is None or trainer.state.fn is None:
        return "laying out the run"
    stages = {"fit": f"step {trainer.global_step}", "validate": "the validation", "test": "the report"}
    return stages.get(str(trainer.state.fn.value), "the export")


def _out_of_memory(shortage: str, stage: str, run_dir: Path) -> OutOfMemory:
    """The error of a run that needs more memory than there is, with the way to go on."""
    checkpoint = checkpoint_of(run_dir)
    then = f", then go on with --resume {shlex.quote(str(checkpoint))}" if checkpoint else ""
    return OutOfMemory(
        what=f"{stage} ran out of memory ({shortage})", expected="enough memory for this scene, model and size",
        fix=f"close other programs or set smaller values (data.size, data.batch_size, system.guidance.dtype){then}",
    )  # fmt: skip


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


class SharedSteps(DDPStrategy):
    """Lightning's DDP for a system whose processes make each step together: it averages its gradients itself.

    Nothing is wrapped, so that parameters may be replaced between steps, as they are where a scene grows.
    """

    def configure_ddp(self) -> None:
        """Leave the system as it is."""


def build_trainer(
    cfg: DictConfig, interrupt: GracefulInterrupt, is_training: bool, shares_steps: bool = False
) -> pl.Trainer:
    """Lightning's trainer with our callbacks; keys under ``trainer`` and ``checkpoint`` win over the defaults."""
    run_dir = Path(cfg.trial_dir)
    keys = {**TRAINER_DEFAULTS, **plain_keys(cfg.trainer), "accelerator": get_device().type}
    if cfg.n_gpus > 1:
        keys.setdefault("strategy", "ddp")
        keys["devices"] = cfg.n_gpus
    strategy = keys.get("strategy", "auto")
    if shares_steps and (strategy != "auto" or keys["devices"] != 1 or keys.get("num_nodes", 1) != 1):
        keys |= {"strategy": _shared(strategy), "use_distributed_sampler": False}
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
            RoomForResults(run_dir),
            interrupt,
        ]
        if cfg.viewer.enable and is_first_process():
            where = (cfg.viewer.host, cfg.viewer.port, cfg.viewer.token)
            callbacks.append(registry.find("run-viewer")(*where, interrupt.is_asked))
        loggers = [LastingTensorBoard(str(run_dir), name="tb_logs"), LastingCSV(str(run_dir), name="csv_logs")]
    plugins = [*keys.pop("plugins", []), WholeCheckpoints()]
    return pl.Trainer(callbacks=callbacks, logger=loggers, plugins=plugins, default_root_dir=str(run_dir), **keys)


def _shared(strategy: Any) -> SharedSteps:
    if strategy not in ("auto", "ddp"):
        expected, fix = "ddp: the scene is on every device, the views of a step are split", "set trainer.strategy=ddp"
        raise ConfigError(what=f"trainer.strategy is {strategy}", expected=expected, fix=fix)
    return SharedSteps()


def resolve_resume(cfg: DictConfig, is_training: bool) -> str | None:
    """The checkpoint to load, or None to start anew; sets the run folder of ``cfg`` to where the results belong.

    ``auto`` is the run folder's ``last.ckpt``, or the one before it if that is broken; with a timestamp, that of the
    newest folder of this name and tag. A run folder may be named in place of a checkpoint. Training without any starts
    anew; the other stages need one.

    Raises:
        CheckpointError: If the named checkpoint does not exist, or one is needed and there is none.
    """
    wanted = cfg.resume if cfg.resume is not None or is_training else "auto"
    if wanted is None:
        return None
    if wanted != "auto":
        path = resumed_file(Path(wanted))
        if not is_training and path.parent.name == "ckpts":
            set_run_folder(cfg, path.parents[1])
        return str(path)
    runs = [Path(cfg.trial_dir)]
    if cfg.use_timestamp:
        runs += Path(cfg.exp_dir).glob(f"{file_name(cfg.tag)}@*")
    checkpoints = [Path(each) for each in map(checkpoint_of, runs) if each is not None]
    if checkpoints:
        run_dir = max(checkpoints, key=lambda path: path.stat().st_mtime).parents[1]
        newest = newest_checkpoint(run_dir)
        set_run_folder(cfg, run_dir)
        info(f"going on from {newest}")
        return str(newest)
    if is_training:
        info(f"no checkpoint in {cfg.trial_dir} yet: starting anew")
        return None
    expected, fix = "a run that was trained before", "train first, or name a checkpoint with --resume PATH"
    raise CheckpointError(what=f"there is no checkpoint in {cfg.trial_dir}", expected=expected, fix=fix)


def check_same_run(cfg: DictConfig, checkpoint: Path) -> None:
    """Refuse to go on from a run whose config gives another result: as its folder has it, and as the checkpoint does.

    Args:
        cfg: A completed ``ExperimentConfig``.
        checkpoint: Of the run; it may have been taken out of its folder.

    Raises:
        CheckpointError: For the first key that differs, or that only one side has.
    """
    without = CANNOT_CHANGE_RESULTS | MAY_CHANGE_ON_RESUME | registry.find(cfg.system_type).cannot_change_results
    fix = "resume without that change, or set another tag and start anew, without --resume"
    run_dir = checkpoint.parent.parent
    if (run_dir / CONFIG_OF_RUN).is_file():
        changed = difference(settings(read_file(run_dir / CONFIG_OF_RUN), without), settings(cfg, without))
        if changed is not None:
            raise CheckpointError(what=f"{run_dir} was made {changed}", expected="the config of that run", fix=fix)
    kept = load_checkpoint(checkpoint).get("callbacks", {}).get(ConfigSnapshotCallback.__qualname__, {})
    key = differing_key(kept["settings"], digests(cfg), without) if "settings" in kept else None
    if key is not None:
        what = f"{checkpoint} was made with another {key}"
        raise CheckpointError(what=what, expected="the config of that run", fix=fix)


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
    try:
        _run_stage(stage, trainer, options)
    except Exception as error:
        is_full = is_storage_error(error)
        if others:
            why = getattr(error, "what", first_line(error)) if is_full else type(error).__name__
            warn(f"{stage} failed ({why}); going on to {others[0]}, so that the result is not lost")
            _finish(others, trainer, **options)
        elif is_full and stage == "export":
            _rescue(trainer, options, error)
        if is_full and options["model"].outcome()[1]:
            options["model"].exit_code = ELSEWHERE
            return
        raise
    _finish(others, trainer, **options)


def _run_stage(stage: str, trainer: pl.Trainer, options: dict[str, Any]) -> None:
    extra = {"return_predictions": False} if stage == "export" else {"verbose": False}
    with _fitting(options["ckpt_path"]):
        getattr(trainer, AFTER_TRAINING[stage][0])(**options, **extra)


def _rescue(trainer: pl.Trainer, options: dict[str, Any], error: Exception) -> None:
    """Write the result somewhere else than into the run's folder, which cannot be written.

    Args:
        trainer: Lightning's.
        options: What the export takes.
        error: Says why.

    Raises:
        StorageError: If no other place takes it, with those that were tried.
    """
    system, why = options["model"], getattr(error, "what", first_line(error))
    places = places_to_rescue_to(Path(system.get_save_dir()).parent)
    for place in places:
        system.set_save_dir(place / "save")
        try:
            _run_stage("export", trainer, options)
        except Exception as again:
            if not is_storage_error(again):
                raise
            continue
        warn(f"{why}; the result is in {place}")
        return
    tried = ", ".join(map(str, places))
    expected, fix = f"room there, or in one of {tried}", "make room, then write the result with --export --resume"
    raise StorageError(what=why, expected=expected, fix=fix) from error


def _can(stage: str, system: BaseSystem, data: pl.LightningDataModule) -> bool:
    _, step, loader = AFTER_TRAINING[stage]
    has_loader = is_overridden(loader, data, parent=pl.LightningDataModule)
    return has_loader and is_overridden(step, system, parent=pl.LightningModule)
