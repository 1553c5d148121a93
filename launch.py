"""The one command: ``python launch.py --config X``; ``--help`` says the rest.

``threestudio`` is imported here, not only in ``main``: a spawned worker imports this file again, and with it finds the
plugins' modules.
"""

import os
import sys

# Waiting threads sleep, but not at once: spinning ones fight with any other busy process for the cores, and ones that
# sleep immediately are slow to wake on an idle machine (docs/embedded-models.md). Read when torch loads OpenMP.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from threestudio.run import main

if __name__ == "__main__":
    sys.exit(main())
