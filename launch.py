"""The one command: ``python launch.py --config X``; ``--help`` says the rest.

``threestudio`` is imported here, not only in ``main``: a spawned worker imports this file again, and with it finds the
plugins' modules.
"""

import os
import sys

# Waiting threads sleep: spinning ones fight with any other busy process for the cores (read when torch loads OpenMP).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from threestudio.run import main

if __name__ == "__main__":
    sys.exit(main())
