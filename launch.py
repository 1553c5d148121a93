"""The one command: ``python launch.py --config X``; ``--help`` says the rest.

``threestudio`` is imported here, not only in ``main``: a spawned worker imports this file again, and with it finds the
plugins' modules.
"""

import sys

from threestudio.run import main

if __name__ == "__main__":
    sys.exit(main())
