"""How kernels are compiled, cached and spread over threads.

Kernels are numba functions that release the GIL and work on a range ``[first, last)`` of independent units (Gaussian
chunks or tiles). A range is cut among plain Python threads, as many as ``torch.get_num_threads()`` says when the
rasteriser is called. Which thread takes which range never changes what is computed, so results have the same bits
for any number of threads. Numba's own parallel back ends are avoided: they cost compile time, ``workqueue`` aborts
when two threads render at once, and GNU OpenMP aborts in a forked data loader.
"""

import contextlib
import hashlib
import inspect
import logging
import os
import stat
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import torch
from numba.core import config

from ..platforms import after_fork_in_child, user_number
from .simd import LANES
from .stages import stage

logger = logging.getLogger("threestudio_ssd.rasterizers")

_FOLDER = Path(__file__).parent
_KERNEL_MODULES = (
    "blending",
    "camera_models",
    "compiling",
    "projection",
    "projection_backward",
    "simd",
    "spherical_harmonics",
    "tiles",
)
_numba_config: Any = config
_ready: set[Callable] = set()
_state: dict = {"pool": None, "pool_size": 0, "announced": False}


def _cache_folder() -> str:
    """A writable folder named after the kernels' sources: editing any of them recompiles what it is inlined into.

    What lies there is run, so in the folder for temporary files, which everybody may write to, it is one that only
    this user can open.

    Raises:
        OSError: If there is no such folder.
    """
    digest = hashlib.sha256()
    for module in _KERNEL_MODULES:
        digest.update((_FOLDER / f"{module}.py").read_bytes())
    digest.update(bytes([LANES]))
    name = f"numba-{digest.hexdigest()[:16]}"
    if _numba_config.CACHE_DIR:
        return str(Path(_numba_config.CACHE_DIR) / name)
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "threestudio-ssd"
    for parent in (_FOLDER / "__pycache__", user_cache):
        try:
            (parent / name).mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(parent / name, os.W_OK):
            return str(parent / name)
    return str(own_folder(Path(tempfile.gettempdir()), "threestudio-ssd") / name)


def own_folder(shared: Path, name: str) -> Path:
    """A folder of this user alone in one that everybody may write to; it carries the user's number in its name.

    Args:
        shared: Where it is made.
        name: What it is called, before the number.

    Raises:
        OSError: If it cannot be made, is a link, belongs to somebody else, or lets others in.
    """
    user = user_number()
    folder = shared / (name if user is None else f"{name}-{user}")
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    is_own = stat.S_ISDIR(status.st_mode) and (user is None or (status.st_uid == user and not status.st_mode & 0o077))
    if not is_own:
        raise OSError(f"{folder} is not a folder of this user alone; remove it, or set NUMBA_CACHE_DIR to a folder")
    return folder


_CACHE = _cache_folder()


def kernel(function: Callable) -> Callable:
    """Compile with numba: cached on disk, no GIL, no float reordering, IEEE division.

    The function is unwrapped first: numba cannot compile a type checker's wrapper.
    """
    previous, _numba_config.CACHE_DIR = _numba_config.CACHE_DIR, _CACHE
    try:
        return numba.njit(inspect.unwrap(function), cache=True, nogil=True, error_model="numpy")
    finally:
        _numba_config.CACHE_DIR = previous


def inline(function: Callable) -> Callable:
    """Compile a helper that kernels call; it is compiled into them, so that no arrays are handed over."""
    return numba.njit(inspect.unwrap(function), error_model="numpy", forceinline=True)


def is_compiled() -> bool:
    """Whether kernels were compiled before and are kept on the disk."""
    return any(Path(_CACHE).rglob("*.nbi"))


class Announce:
    """Says once per process that kernels are being compiled, if a call compiles rather than loads from the cache."""

    def __init__(self, function: Callable) -> None:
        self.function = function

    def __enter__(self) -> None:
        self.is_first = self.function not in _ready
        _ready.add(self.function)
        if self.is_first and not _state["announced"] and not is_compiled():
            _state["announced"] = True
            logger.warning("compiling the CPU rasteriser (once; about 20 seconds; kept in %s)", _CACHE)
        self.start = time.perf_counter()

    def __exit__(self, *exception) -> None:
        if self.is_first:
            seconds = time.perf_counter() - self.start
            logger.debug("%s ready after %.2f s", self.function.py_func.__name__, seconds)


def _reset_after_fork() -> None:
    _state["pool"] = None


after_fork_in_child(_reset_after_fork)


def _pool(size: int) -> ThreadPoolExecutor:
    if _state["pool"] is None or _state["pool_size"] < size:
        _state["pool"], _state["pool_size"] = ThreadPoolExecutor(size, "rasterizer"), size
    return _state["pool"]


def run(function: Callable, bounds: list[int], *args) -> None:
    """Run ``function(first, last, *args)`` over consecutive ranges, on as many threads as torch uses.

    Args:
        function: A kernel whose units are independent of one another.
        bounds: Range limits, increasing; ``len(bounds) - 1`` ranges, taken in order by whichever thread is free.
        args: What every call gets.
    """
    num_ranges = len(bounds) - 1
    num_threads = min(torch.get_num_threads(), num_ranges)
    if function not in _ready:
        with Announce(function):
            function(bounds[0], bounds[0], *args)
    with stage(function.__name__):
        if num_threads <= 1:
            function(bounds[0], bounds[-1], *args)
        else:
            _share(function, bounds, num_threads, args)


def call(function: Callable, *args) -> None:
    """Call a kernel that is not cut into ranges."""
    with Announce(function), stage(function.__name__):
        function(*args)


def _share(function: Callable, bounds: list[int], num_threads: int, args: tuple) -> None:
    ranges = iter(range(len(bounds) - 1))

    def work() -> None:
        for i in ranges:  # a range iterator hands out each index once: next() holds the GIL
            function(bounds[i], bounds[i + 1], *args)

    pending = [_pool(num_threads - 1).submit(work) for _ in range(num_threads - 1)]
    work()
    for future in pending:
        future.result()


def even_bounds(num_units: int, num_ranges: int) -> list[int]:
    """Cut ``num_units`` into ranges of nearly equal length; into one where there is one thread."""
    num_ranges = 1 if torch.get_num_threads() == 1 else max(1, min(num_ranges, num_units))
    return [num_units * i // num_ranges for i in range(num_ranges + 1)]
