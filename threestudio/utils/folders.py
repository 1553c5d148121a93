"""The folder of a run: that it can be written and has room is found before any work, and that nobody else is in it."""

import importlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from threestudio.errors import StorageError
from threestudio.utils.saving import unwritable

LOCK = ".lock"
"""File in a folder that is in use; it holds who uses it."""
LEAST_ROOM = 16 * 2**20
"""Bytes that any run may need before it knows how many."""


def check_room(folder: str | Path, num_bytes: int = LEAST_ROOM) -> None:
    """Find before any work that a run's folder cannot be made or written, or that so much does not fit into it.

    The room is asked for, not only looked at, so that quotas and limits count as well; it is given back at once.

    Args:
        folder: Where a run will write; it is there afterwards only if it was before.
        num_bytes: How much.

    Raises:
        StorageError: If it cannot, with how much was asked for.
    """
    folder = Path(folder)
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            os.posix_fallocate(probe.fileno(), 0, num_bytes) if hasattr(os, "posix_fallocate") else None
    except OSError as cause:
        raise StorageError(
            what=f"the run folder {folder} cannot be written ({cause.strerror})",
            expected=f"a folder that can be made and written, with room for {max(1, round(num_bytes / 1e6))} MB",
            fix="make room, or set exp_root_dir to another folder",
        ) from cause
    finally:
        for each in made:
            with suppress(OSError):  # a folder that could not be made
                each.rmdir()


@contextmanager
def sole_use(folder: str | Path) -> Iterator[None]:
    """Have a folder for this process alone; it is made if it is missing, and left as it was if nothing was written.

    The lock is the system's, so that it ends with the process, however that ends. Folders on file systems without
    locks are not guarded.

    Args:
        folder: Of a run, or of the results of an app.

    Raises:
        StorageError: If another process uses it, or it cannot be written.
    """
    folder = Path(folder)
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    handle = _locked(folder)
    try:
        yield
    finally:
        with suppress(OSError):  # somebody may have removed the folder, or made it read-only
            (folder / LOCK).unlink()
        os.close(handle)
        for each in made:
            with suppress(OSError):  # it is not empty: a result is in it
                each.rmdir()


def _take_lock(handle: int) -> None:
    """Take the lock of an open file, by what the system has for it; where it has nothing, nothing is guarded.

    Raises:
        BlockingIOError: If another process has it.
    """
    with suppress(ModuleNotFoundError):
        fcntl: Any = importlib.import_module("fcntl")
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    with suppress(ModuleNotFoundError):
        msvcrt: Any = importlib.import_module("msvcrt")
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError as cause:
            raise BlockingIOError(cause.errno, cause.strerror) from cause


def _locked(folder: Path) -> int:
    """A handle of the folder's lock, taken."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as cause:
            raise unwritable(folder, cause) from cause
        try:
            _take_lock(handle)
        except BlockingIOError as cause:
            user = os.read(handle, 200).decode("utf-8", "replace").strip()
            os.close(handle)
            raise StorageError(
                what=f"{folder} is in use by another run ({user or 'which is just starting'})",
                expected="a folder for each run", fix="wait for that run, or set another tag or exp_root_dir",
            ) from cause  # fmt: skip
        except OSError:  # no locks on this file system
            return handle
        with suppress(FileNotFoundError):
            if os.stat(folder / LOCK).st_ino == os.fstat(handle).st_ino:
                os.ftruncate(handle, 0)
                with suppress(OSError):  # a full disk is found by check_room, with a better message
                    os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                return handle
        os.close(handle)  # whoever had it removed the file in between


def places_to_rescue_to(run_dir: Path) -> list[Path]:
    """Folders that may take a result whose own cannot be written: here, at home, among temporary files."""
    name = f"rescued-{run_dir.absolute().parent.name}-{run_dir.absolute().name}"
    return [folder / name for folder in (Path.cwd(), Path.home(), Path(tempfile.gettempdir()))]


def remove_run_folder(run_dir: Path) -> None:
    """Remove the folder that this run made, and the folders above it that are empty without it."""
    shutil.rmtree(run_dir, ignore_errors=True)
    for parent in list(run_dir.parents)[:2]:
        if parent != Path() and parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
