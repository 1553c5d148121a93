"""``--progress json``: what a run does, one JSON object a line on standard output, for programs that start it.

Everything else that would go to standard output goes to standard error then. ``data/schemas/progress.schema.json`` says
what a line holds; its version is in the first one.
"""

import json
import math
import sys
import time
from typing import Any, TextIO

SCHEMA_VERSION = 1

_out: TextIO | None = None
_begin = 0.0


def use_json() -> None:
    """Write events from now on; the first is ``start``."""
    global _out, _begin
    _out, sys.stdout, _begin = sys.stdout, sys.stderr, time.monotonic()
    event("start", schema_version=SCHEMA_VERSION)


def finish(exit_code: int) -> None:
    """Write the last event, and give standard output back."""
    global _out
    if _out is not None:
        event("end", exit_code=exit_code)
        _out, sys.stdout = None, _out


def is_json() -> bool:
    """Whether events are written."""
    return _out is not None


def event(name: str, /, **facts: Any) -> None:
    """Write one line, if they are asked for.

    Args:
        name: ``start``, ``message``, ``progress``, ``result``, ``error`` or ``end``.
        facts: What else it says; numbers that are not finite become null.
    """
    if _out is None:
        return
    seconds = round(time.monotonic() - _begin, 3)
    _out.write(json.dumps({"event": name, "seconds": seconds, **_plain(facts)}, allow_nan=False) + "\n")
    _out.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
