"""Which rasteriser renders tensors of a device: gsplat on CUDA, mpsplat on MPS, the numba kernels everywhere else.

The choice is made once for each kind of device, and what it costs is said in one line.
"""

import functools
import importlib
import importlib.util
import logging
from collections.abc import Callable
from typing import Literal

from ..errors import first_line

logger = logging.getLogger("threestudio")

Backend = Literal["gsplat", "mpsplat", "cpu"]
MEND = (
    "install the CUDA compiler of torch's version (conda install -c conda-forge cuda-nvcc), or a gsplat wheel with "
    "kernels for this torch and this card"
)


def choose_backend(device_type: str, gsplat_problem: str | None, has_mpsplat: bool) -> tuple[Backend, str]:
    """The rasteriser for a kind of device, and what a user should know of the choice.

    Args:
        device_type: Of the scene's tensors: ``cpu``, ``cuda`` (ROCm too) or ``mps``.
        gsplat_problem: Why gsplat cannot render; None if it can.
        has_mpsplat: Whether mpsplat is installed.

    Returns:
        The rasteriser, and a line for the user; empty if there is nothing to say.
    """
    if device_type == "cuda":
        if gsplat_problem is None:
            return "gsplat", ""
        return "cpu", (
            f"gsplat cannot render on this GPU ({gsplat_problem}): networks run on the GPU, splats are rendered on the "
            f"CPU, several times slower. To mend it, {MEND}."
        )
    if device_type == "mps":
        if has_mpsplat:
            return "mpsplat", ""
        return "cpu", "Networks run on the GPU, splats are rendered on the CPU; pip install mpsplat renders on the GPU."
    return "cpu", ""


@functools.cache
def backend_of(device_type: str) -> Backend:
    """The rasteriser that this machine has for a kind of device; the first call logs what it costs.

    gsplat builds its kernels here, if they are not built yet.
    """
    problem = gsplat_problem() if device_type == "cuda" else None
    backend, line = choose_backend(device_type, problem, importlib.util.find_spec("mpsplat") is not None)
    if line:
        logger.warning("%s", line)
    return backend


def gsplat_problem() -> str | None:
    """Why gsplat cannot render, in a few words; None if its kernels are there or could be built."""
    try:
        importlib.import_module("gsplat")
        kernels = importlib.import_module("gsplat.cuda._backend")
    except ImportError as error:
        return f"it cannot be imported: {first_line(error)}"
    except Exception as error:  # noqa: BLE001  # whatever a compiler's driver raises: the run goes on without
        return f"its kernels cannot be built: {first_line(error)}"
    return None if getattr(kernels, "_C", None) is not None else "it found no CUDA compiler (nvcc) to build its kernels"


@functools.cache
def gpu_rasterization(package: Literal["gsplat", "mpsplat"]) -> Callable:
    """``rasterization`` of a package, which is imported at the first call: that takes seconds."""
    return importlib.import_module(package).rasterization
