"""How checkpoints are written and found: whole, on the disk, and with the one before beside the newest."""

import os
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from threestudio.errors import CheckpointError, StorageError
from threestudio.log import info, warn
from threestudio.utils.misc import load_checkpoint
from threestudio.utils.saving import atomic_path

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
"""The newest checkpoint of a run, and the one before it."""
FOLDER = "ckpts"
"""Of a run's checkpoints."""


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place, has the disk keep it, and only then gives it its name.

    Lightning's own collects it in the folder for temporary files. Where that is another file system, the move from
    there is a copy, and a process that is killed in its midst leaves neither the old checkpoint nor the new one.

    Attributes:
        failure: Why the last one could not be written; None if it was. That costs no step: the one before is still
            there, and the run may have room again when the next is due.
    """

    failure: StorageError | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; a ``last.ckpt`` that is there becomes ``previous.ckpt``."""
        self.failure = None
        try:
            self._save(checkpoint, Path(path))
        except StorageError as error:
            self.failure = error
            warn(f"step {checkpoint.get('global_step')}: {error.what}; the checkpoint before it stays")

    def _save(self, checkpoint: dict[str, Any], path: Path) -> None:
        with atomic_path(path) as temporary:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
            if path.name == LAST and path.exists():
                keep_as(path, path.with_name(PREVIOUS))


def keep_as(path: Path, other: Path) -> None:
    """Give a file a second name, in place of what had it; where files have one name only, it loses the first.

    Args:
        path: The file.
        other: The second name, in the same folder.
    """
    beside = other.with_name(f".{other.name}.link")
    beside.unlink(missing_ok=True)
    try:
        os.link(path, beside)
    except OSError:
        os.replace(path, other)
        return
    os.replace(beside, other)


def newest_checkpoint(run_dir: Path) -> Path | None:
    """The newest checkpoint of a run that can be read: ``last.ckpt``, or with a warning the one before it.

    Returns:
        Its path; None if the run has none.

    Raises:
        CheckpointError: If none can be read.
    """
    paths = [run_dir / FOLDER / name for name in (LAST, PREVIOUS)]
    there = [path for path in paths if path.is_file()]
    for path, older in zip(there, [*there[1:], None], strict=True):
        try:
            load_checkpoint(path)
        except CheckpointError as error:
            if older is None:
                raise
            warn(f"{error.what}; going back to {older}, the one before it")
        else:
            return path
    return None


def set_aside_broken(resumed: Path) -> None:
    """Where a run goes on from ``previous.ckpt``, give the broken ``last.ckpt`` another name, or it would be kept as
    the one before the next.

    Args:
        resumed: The checkpoint that training goes on from.
    """
    last = resumed.with_name(LAST)
    if resumed.name == PREVIOUS and last.exists():
        os.replace(last, resumed.with_name(f"broken-{LAST}"))


def resumed_file(path: Path) -> Path:
    """The checkpoint that ``--resume`` names: itself, or the newest of a run folder.

    Raises:
        CheckpointError: If there is none, or it cannot be read; says which older one there is.
    """
    if path.is_dir():
        newest = newest_checkpoint(path)
        if newest is None:
            fix = "name the folder of a run that was trained"
            raise CheckpointError(what=f"there is no checkpoint in {path}", expected=f"{FOLDER}/{LAST}", fix=fix)
        info(f"going on from {newest}")
        return newest
    try:
        load_checkpoint(path)
    except CheckpointError as error:
        older = path.with_name(PREVIOUS)
        if path.name != LAST or not older.is_file():
            raise
        fix = f"go on from the one before it, --resume {shlex.quote(str(older))}"
        raise CheckpointError(what=error.what, expected=error.expected, fix=fix) from error
    return path


def checkpoint_of(run_dir: Path) -> str | None:
    """The checkpoint that a run which ends now can be resumed from, by its path; None if there is none."""
    paths = (run_dir / FOLDER / name for name in (LAST, PREVIOUS))
    with suppress(OSError):
        return next((str(path) for path in paths if path.is_file()), None)
    return None
