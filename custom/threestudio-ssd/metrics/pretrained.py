"""Where the metrics' networks come from: an embedded folder, a local folder, or a hub id."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ..errors import ConfigError, first_line

T = TypeVar("T")

DATA = Path(__file__).resolve().parents[3] / "data"
"""The repository's folder of small shipped inputs."""

EMBEDDED = ("tiny-clip",)


def resolve_model(model: str) -> str:
    """The folder or hub id behind a model's name.

    Args:
        model: An embedded model's name (``tiny-clip``), a local folder (also one relative to the repository), or a
            hub id.

    Returns:
        What ``from_pretrained`` takes.

    Raises:
        ConfigError: If an embedded model's folder is missing, or a path does not exist.
    """
    if model in EMBEDDED:
        folder = DATA / model
        if not folder.is_dir():
            raise ConfigError(
                what=f"the embedded model {model} is not at {folder}",
                expected="the folder that the repository ships",
                fix="restore data/ from the repository, or run `make models`",
            )
        return str(folder)
    path = Path(model).expanduser()
    for folder in (path, DATA.parent / path):
        if folder.is_dir():
            return str(folder)
    if path.is_absolute() or model.startswith((".", "~", "data/")) or model.count("/") > 1:
        raise ConfigError(
            what=f"there is no folder {model}",
            expected="a model folder in the transformers format, or a hub id such as openai/clip-vit-large-patch14",
            fix="correct the path, or give the hub id",
        )
    return model


def load_pretrained(load: Callable[[str], T], model: str, use: str) -> T:
    """Load with ``from_pretrained``, and say plainly what to do when that fails.

    Args:
        load: Takes a folder or hub id.
        model: As the user named it.
        use: What it is for, in the words of the message ("CLIP metrics").

    Raises:
        ConfigError: If the model is neither at hand nor downloadable, or is of another kind.
    """
    from safetensors import SafetensorError

    source = resolve_model(model)
    try:
        with _without_bars():
            return load(source)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            what=f"the model {model} for {use} cannot be loaded ({first_line(error)})",
            expected="a folder in the transformers format, or a hub id that can be downloaded or is in the cache",
            fix="check the name, or give a local folder",
        ) from error


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep the library's bar of loaded weights off the screen."""
    from transformers.utils import logging

    has_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if has_bars:
            logging.enable_progress_bar()
