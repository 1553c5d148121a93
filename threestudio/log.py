"""``info``, ``warn`` and ``debug``: the one way messages leave the code.

As a library nothing is shown below a warning; ``launch.py`` calls :func:`show_messages`.
"""

import logging
import os
import sys

logger = logging.getLogger("threestudio")


def _is_first_process() -> bool:
    return os.environ.get("LOCAL_RANK", os.environ.get("RANK", "0")) == "0"


def debug(message: object, *args: object) -> None:
    """Log detail that only ``--verbose`` shows."""
    if _is_first_process():
        logger.debug(message, *args)


def info(message: object, *args: object) -> None:
    """Log what a user wants to know while a run goes well."""
    if _is_first_process():
        logger.info(message, *args)


def warn(message: object, *args: object) -> None:
    """Log what a user should know though the run goes on."""
    if _is_first_process():
        logger.warning(message, *args)


class _Handler(logging.Handler):
    """Writes to standard output, above a progress bar if one is being drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm = sys.modules.get("tqdm")
        text = self.format(record)
        if tqdm is not None and getattr(tqdm.tqdm, "_instances", None):
            tqdm.tqdm.write(text, file=sys.stdout)
        else:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()


def show_messages(verbose: bool = False) -> None:
    """Show messages on standard output: from INFO on, or from DEBUG on when ``verbose``."""
    for handler in [handler for handler in logger.handlers if isinstance(handler, _Handler)]:
        logger.removeHandler(handler)
    handler = _Handler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(message)s", datefmt="%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False
