"""The host that the plugin stands in: this repository's own, or upstream threestudio. No other module asks which.

Where upstream does something in another way, or not at all, what the plugin needs is made here of what upstream has.
torch, NumPy and OmegaConf are imported where they are used, since the plugin's table of names must be quick to read.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import threestudio

if TYPE_CHECKING:
    import torch

IS_UPSTREAM = not hasattr(threestudio, "register_places")
VERSION: str | None = getattr(threestudio, "__version__", None)
"""Of the host, which here is that of the plugin."""
COMMANDS = ("apps", "benchmarks", "viewer")
"""Parts that only the ``launch.py`` of this repository can run."""

if IS_UPSTREAM:
    from threestudio.systems.base import BaseSystem

    SystemConfig = BaseSystem.Config
else:  # the same keys, without importing Lightning
    from threestudio.systems.config import SystemConfig as SystemConfig


def register(
    package: str,
    places: Mapping[str, str | tuple[str, str]],
    check: Callable[[Mapping[str, Any]], None],
    file_keys: Iterable[str],
) -> None:
    """Make the plugin's names known: their places where the host takes them, else by importing the classes.

    Args:
        package: Name that the plugin is imported under.
        places: Registered name -> where its class is.
        check: Finds what is missing from an experiment before anything heavy is imported.
        file_keys: Keys that name files, which the host may look for in more than one place.
    """
    if not IS_UPSTREAM:
        threestudio.register_places(package, places)
        threestudio.register_early_check(check)
        threestudio.register_file_keys(file_keys)
        return
    for place in places.values():
        module = (place if isinstance(place, str) else place[0]).partition(":")[0]
        if module.partition(".")[0] not in COMMANDS:
            importlib.import_module(f"{package}.{module}")


def parse_structured(fields: type, cfg: Any = None) -> Any:
    """The host's ``parse_structured``, with all groups completed."""
    from threestudio.utils.config import parse_structured as parse

    return parse(fields, completed(fields, cfg))


def completed(fields: type, cfg: Any) -> Any:
    """The given keys in a form in which every host keeps the defaults of groups that are given in part.

    Upstream hands the keys to the dataclass as they are written, so that a group would have these keys and no others.

    Args:
        fields: The dataclass that the host is about to read the keys into.
        cfg: The keys; None for the defaults.
    """
    if not IS_UPSTREAM:
        return cfg
    from omegaconf import OmegaConf

    keys = {} if cfg is None else cfg
    whole = OmegaConf.merge(OmegaConf.structured(fields), keys)
    return OmegaConf.create({key: whole[key] for key in keys})


def get_device() -> "torch.device":
    """The host's device; upstream names a GPU even where there is none, and then it is the CPU."""
    import torch

    from threestudio.utils.misc import get_device as device_of_host

    return torch.device("cpu") if IS_UPSTREAM and not torch.cuda.is_available() else device_of_host()


def allocation_failure(error: BaseException) -> str | None:
    """How much memory was refused, in words, if an error came of that; upstream is left to say it in its own way."""
    if IS_UPSTREAM:
        return None
    from threestudio.utils.memory import allocation_failure as failure_of_host

    return failure_of_host(error)


def scheduled(value: Any, step: int, interpolation: str = "linear") -> float:
    """The value of a number or schedule at a step; upstream reads no plain lists."""
    from threestudio.utils.misc import C

    if IS_UPSTREAM and isinstance(value, list | tuple):
        from omegaconf import OmegaConf

        value = OmegaConf.create(list(value))
    return C(value, 0, step, interpolation)


class Completed:
    """What the host makes of keys gets them ``completed``; stands before the host's base class."""

    Config: type

    def __init__(self, cfg: Any = None, *args: Any, **kwargs: Any) -> None:
        base: Any = super()
        base.__init__(completed(self.Config, cfg), *args, **kwargs)


class Outcome:
    """What systems of our own host can say and save beside upstream's; stands behind the host's base class."""

    exit_code: int = 0
    result_path: str | None = None
    save_rgb_image: Any
    save_img_sequence: Any
    get_save_path: Any

    def save_text(self, filename: str, text: str) -> str:
        """Save a text, UTF-8."""
        from .files import write_text

        path = self.get_save_path(filename)
        write_text(path, text)
        return path

    def save_video(self, filename: str, frames: Iterable[Any]) -> str:
        """Save frames (h w 3), with values in [0, 1], as ``.mp4``; upstream makes videos of pictures, which stay."""
        folder = Path(filename).stem
        for number, frame in enumerate(frames):
            self.save_rgb_image(f"{folder}/{number:04d}.png", frame)
        return self.save_img_sequence(filename, folder, r"(\d+)\.png")


def after_test(system: Any) -> None:
    """Upstream's ``--train`` ends with the test, so the result is written there."""
    if IS_UPSTREAM:
        system.predict_step({}, 0)
        after_export(system)


def after_export(system: Any) -> None:
    """Upstream's launcher asks no system how the run ended, so the system says it.

    Raises:
        SystemExit: With the exit code of a run without a usable result.
    """
    if not IS_UPSTREAM:
        return
    if system.result_path is not None:
        threestudio.info(f"The result is {system.result_path}")
    system.say_verdicts()
    if system.exit_code:
        raise SystemExit(system.exit_code)
