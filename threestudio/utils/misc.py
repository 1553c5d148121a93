"""Small things everything uses: the device, scheduled values, weights out of a checkpoint, freeing memory."""

import gc
import os
import re
import zipfile
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path

import torch
from omegaconf import OmegaConf

from threestudio.errors import CheckpointError, ConfigError
from threestudio.utils.schedule import value_at

_forced_device: torch.device | None = None
_usual_device: str | None = None


def get_rank() -> int:
    """Rank of this process among those of a distributed run; 0 otherwise."""
    for key in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"):
        if key in os.environ:
            return int(os.environ[key])
    return 0


def check_device(asked: str | None, has_cuda: bool, has_mps: bool) -> None:
    """Refuse a device that torch does not find here.

    Args:
        asked: ``cuda`` (ROCm's name too), ``mps`` or ``cpu``; None for the usual.
        has_cuda, has_mps: What torch finds.

    Raises:
        ConfigError: If it is none of these, or not here.
    """
    there = {"cuda": has_cuda, "mps": has_mps, "cpu": True}
    if asked is None or there.get(asked):
        return
    usable = " or ".join(name for name, is_there in there.items() if is_there)
    if asked in there:
        what = f"a GPU was asked for ({asked}), and torch finds none"
        fix = "leave --device and --gpu out to run on the CPU"
        expected = f"a torch built for it and a device (here: {usable})"
        raise ConfigError(what=what, expected=expected, fix=fix)
    raise ConfigError(
        what=f"the device is {asked}", expected="cuda, mps or cpu", fix=f"write --device {usable.split()[0]}"
    )


def use_device(asked: str | None, *, is_usual: bool = False) -> None:
    """Make :func:`get_device` answer a device by its name.

    Args:
        asked: As for :func:`check_device`; None for the usual one.
        is_usual: Whether this is the usual one from now on, as the command line says, and not that of a run.

    Raises:
        ConfigError: As :func:`check_device`.
    """
    global _usual_device
    check_device(asked, torch.cuda.is_available(), torch.backends.mps.is_available())
    if is_usual:
        _usual_device = asked
    else:
        force_device(f"cuda:{get_local_rank()}" if asked == "cuda" else asked)


def get_local_rank() -> int:
    """Which of this machine's GPUs is this process's."""
    return int(os.environ.get("LOCAL_RANK", 0))


def get_device() -> torch.device:
    """The device this process works on: as asked for, else its CUDA GPU if there is one, else the CPU."""
    if _forced_device is not None:
        return _forced_device
    name = _usual_device or ("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(f"cuda:{get_local_rank()}" if name == "cuda" else name)


def force_device(device: str | torch.device | None) -> None:
    """Make :func:`get_device` answer this; None goes back to choosing."""
    global _forced_device
    _forced_device = None if device is None else torch.device(device)


def C(value: object, epoch: int, global_step: int, interpolation: str = "linear") -> float:
    """The value of a number or schedule at this moment; the forms are in :mod:`threestudio.utils.schedule`."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True)
    return value_at(value, epoch, global_step, interpolation)


def load_checkpoint(path: str | Path, map_location: str | torch.device = "cpu") -> dict:
    """Read a checkpoint that holds tensors and plain values only (nothing in it is executed).

    Raises:
        CheckpointError: If there is no such file or it is no checkpoint.
    """
    if not Path(path).is_file():
        raise CheckpointError(
            what=f"there is no checkpoint {path}", expected="a .ckpt file of a run", fix="check the path"
        )
    try:
        if zipfile.is_zipfile(path) and (torn := zipfile.ZipFile(path).testzip()):  # torch looks at no checksum
            raise ValueError(f"the checksum of {torn} is wrong")
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as cause:
        what = f"{path} cannot be read as a checkpoint ({type(cause).__name__})"
        fix = "use another checkpoint, or start again without --resume"
        raise CheckpointError(what=what, expected="a .ckpt file of a run, written completely", fix=fix) from cause
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(
            what=f"{path} holds no state_dict", expected="a .ckpt file of a run", fix="use another checkpoint"
        )
    return checkpoint


def load_module_weights(
    path: str | Path,
    module_name: str | None = None,
    ignore_modules: Iterable[str] | None = None,
    map_location: str | torch.device | None = None,
) -> tuple[dict, int, int]:
    """Weights out of a checkpoint.

    Args:
        path: The checkpoint.
        module_name: Take only this module's weights, with its name removed from their keys.
        ignore_modules: Leave these modules' weights out. Not together with ``module_name``.
        map_location: Where the tensors go; :func:`get_device` by default.

    Returns:
        The state dict, the epoch and the global step.
    """
    if module_name is not None and ignore_modules is not None:
        raise ValueError("give module_name or ignore_modules, not both")
    checkpoint = load_checkpoint(path, map_location if map_location is not None else get_device())
    state = checkpoint["state_dict"]
    if ignore_modules is not None:
        prefixes = tuple(f"{name}." for name in ignore_modules)
        state = {key: value for key, value in state.items() if not key.startswith(prefixes)}
    if module_name is not None:
        prefix = re.compile(rf"^{re.escape(module_name)}\.")
        state = {prefix.sub("", key): value for key, value in state.items() if prefix.match(key)}
    return state, checkpoint["epoch"], checkpoint["global_step"]


def cleanup() -> None:
    """Free memory that Python and the GPU hold without need."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def finish_with_cleanup(func: Callable) -> Callable:
    """Decorate a function so that :func:`cleanup` follows it."""

    @wraps(func)
    def wrapper(*args, **kwargs):
        out = func(*args, **kwargs)
        cleanup()
        return out

    return wrapper


def enable_gradient(model: torch.nn.Module, enabled: bool = True) -> None:
    """Switch gradients of all parameters of a module on or off."""
    for param in model.parameters():
        param.requires_grad_(enabled)
