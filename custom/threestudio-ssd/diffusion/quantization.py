"""Weights in fewer bits: which ways there are, the packages they need, and what diffusers is told."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import ConfigError, MissingPackageError

QUANTIZATIONS = {
    "none": (),
    "bnb-8bit": ("bitsandbytes", "accelerate"),
    "bnb-4bit": ("bitsandbytes", "accelerate"),
    "torchao-int8": ("torchao",),
    "torchao-float8": ("torchao",),
}
"""Ways to store weights in fewer bits -> the packages they need."""
GGUF_PACKAGES = ("gguf",)
EXTRAS = "requirements-extra.txt"


def check_quantization(quantization: str, key: str) -> None:
    """Find out whether a quantisation can be used, before a download.

    Raises:
        ConfigError: If there is no such quantisation or file.
        MissingPackageError: If its package is not installed.
    """
    is_file = is_gguf(quantization)
    if (is_file and not Path(quantization).is_file()) or (not is_file and quantization not in QUANTIZATIONS):
        expected = f"one of {', '.join(QUANTIZATIONS)}, or a .gguf file"
        raise ConfigError(what=f"{key} is {quantization!r}", expected=expected, fix=f"set {key}=none")
    require(GGUF_PACKAGES if is_file else QUANTIZATIONS[quantization], f"{key}={quantization}")


def is_gguf(quantization: str) -> bool:
    """Whether a quantisation is a file of the network's weights."""
    return quantization.endswith(".gguf")


def require(packages: Sequence[str], feature: str) -> None:
    """Find out whether packages are installed.

    Raises:
        MissingPackageError: For the first that is not.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            what = f"{feature} needs the package {package}"
            fix = f"pip install {package} ({EXTRAS} has them all)"
            raise MissingPackageError(what=what, expected="it installed", fix=fix)


def backend_of(quantization: str, dtype: torch.dtype) -> tuple[str, dict[str, Any]]:
    """Name and arguments of diffusers' quantiser.

    Args:
        quantization: A key of ``QUANTIZATIONS``, not none.
        dtype: What is computed in.
    """
    if quantization.startswith("torchao"):
        import torchao.quantization  # pyright: ignore[reportMissingImports]  # optional

        kinds = {"torchao-int8": "Int8WeightOnlyConfig", "torchao-float8": "Float8WeightOnlyConfig"}
        return "torchao", {"quant_type": getattr(torchao.quantization, kinds[quantization])()}
    if quantization == "bnb-8bit":
        return "bitsandbytes_8bit", {"load_in_8bit": True}
    return "bitsandbytes_4bit", {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype}


def network_config(quantization: str, dtype: torch.dtype) -> Any:
    """The ``quantization_config`` of one network of diffusers; None for no quantisation."""
    import diffusers

    if quantization == "none":
        return None
    backend, arguments = backend_of(quantization, dtype)
    return (diffusers.TorchAoConfig if backend == "torchao" else diffusers.BitsAndBytesConfig)(**arguments)


def read_gguf(cls: type, file: str, config: str, part: str, dtype: torch.dtype) -> Any:
    """A network whose weights are a .gguf file's.

    Args:
        cls: Its class in diffusers.
        file: The .gguf file.
        config: Folder or hub id of the model that the network belongs to.
        part: Its folder there.
        dtype: What is computed in.
    """
    import diffusers

    quantization = diffusers.GGUFQuantizationConfig(compute_dtype=dtype)
    load: Any = cls
    return load.from_single_file(file, quantization_config=quantization, config=config, subfolder=part, dtype=dtype)
