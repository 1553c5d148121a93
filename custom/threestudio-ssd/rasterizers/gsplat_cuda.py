"""CUDA tensors go to gsplat, which is imported on the first such call: importing it takes seconds."""

import functools
import importlib
from collections.abc import Callable

from ..errors import MissingPackageError


@functools.cache
def gsplat_rasterization() -> Callable:
    """``gsplat.rasterization``.

    Raises:
        MissingPackageError: If gsplat is not installed.
    """
    try:
        return importlib.import_module("gsplat").rasterization
    except ImportError as error:
        raise MissingPackageError(
            what="rendering on CUDA needs the package gsplat, which cannot be imported",
            expected="gsplat 1.5.3",
            fix="pip install gsplat==1.5.3, or move the tensors to the CPU",
        ) from error
