"""The one command: ``python launch.py --config X``; ``--help`` says the rest.

``threestudio`` is imported here, not only in ``main``: a spawned worker imports this file again, and with it finds the
plugins' modules.
"""

import atexit
import os
import sys
from contextlib import suppress

exit_code = 1
"""Of this process, unless ``main`` comes to another."""


def leave() -> None:
    """End the process now. To take its objects apart takes seconds with torch loaded, and nothing waits for that.

    It is the last that ``atexit`` calls: threads were waited for, files are closed, and all others had their turn.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # nobody reads it any more; it is closed; there is none
            stream.flush()
    os._exit(exit_code)


if __name__ == "__main__":
    atexit.register(leave)  # before any import that registers: whoever comes first is called last

# Waiting threads sleep, but not at once: spinning ones fight with any other busy process for the cores, and ones that
# sleep immediately are slow to wake on an idle machine (docs/embedded-models.md). Read when torch loads OpenMP.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from threestudio.run import main  # noqa: E402  # what is above must come before it

if __name__ == "__main__":
    exit_code = main()
    sys.exit(exit_code)
