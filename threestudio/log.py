"""``info``, ``warn`` and ``debug``: the one way messages leave the code.

As a library nothing is shown below a warning; ``launch.py`` calls :func:`show_messages`.
"""

import logging
import os
import sys

from threestudio import progress

logger = logging.getLogger("threestudio")


def is_first_process() -> bool:
    """Whether this is the process of a run that speaks and writes; the others help it."""
    return os.environ.get("LOCAL_RANK", os.environ.get("RANK", "0")) == "0"


logger.addFilter(lambda record: is_first_process())

debug = logger.debug
"""Log detail that only ``--verbose`` shows."""
info = logger.info
"""Log what a user wants to know while a run goes well."""
warn = logger.warning
"""Log what a user should know though the run goes on."""


class _Handler(logging.Handler):
    """Writes to standard output, above a progress bar if one is being drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm = sys.modules.get("tqdm")
        text = self.format(record)
        if progress.is_json():
            progress.event("message", level=record.levelname.lower(), text=record.getMessage())
        elif tqdm is not None and getattr(tqdm.tqdm, "_instances", None):
            tqdm.tqdm.write(text, file=sys.stdout)
        else:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()


def show_messages(verbose: bool = False) -> None:
    """Show messages on standard output: from INFO on, or from DEBUG on when ``verbose``."""
    logger.handlers = [handler for handler in logger.handlers if not isinstance(handler, _Handler)]
    handler = _Handler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(message)s", datefmt="%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False
