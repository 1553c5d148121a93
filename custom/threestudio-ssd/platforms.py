"""What only some operating systems have, asked for here and nowhere else, so that Windows and macOS run as well."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Any


def peak_memory_of_process() -> int:
    """Most memory that this process used so far, bytes."""
    if importlib.util.find_spec("resource") is not None:
        resource: Any = importlib.import_module("resource")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    import psutil

    memory = psutil.Process().memory_info()
    return getattr(memory, "peak_wset", memory.rss)


def memory_of_process() -> int:
    """Memory that this process holds now, bytes."""
    import psutil

    return psutil.Process().memory_info().rss


def after_fork_in_child(function: Callable[[], None]) -> None:
    """Have a function called in every forked child; where processes are only spawned there is nothing to do."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def user_number() -> int | None:
    """The number of the user, where users have one."""
    return os.getuid() if hasattr(os, "getuid") else None
