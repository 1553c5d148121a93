"""Time spent in each stage, when somebody asks."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

_recorders: list[dict[str, float]] = []


@contextmanager
def record_stages() -> Iterator[dict[str, float]]:
    """Collect seconds by stage name while the block runs."""
    seconds: dict[str, float] = {}
    _recorders.append(seconds)
    try:
        yield seconds
    finally:
        _recorders.remove(seconds)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Count the time of a block towards a stage."""
    start = time.perf_counter()
    yield
    for seconds in _recorders:
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
