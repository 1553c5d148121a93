"""Memory that runs out: on a GPU, in torch on the CPU, in Python; each says it in its own way."""

import re

import torch

from threestudio.errors import chain_of

REFUSED = re.compile(r"can't allocate memory|not enough memory|out of memory|bad_alloc", re.IGNORECASE)
WANTED = (
    re.compile(r"[Tt]ried to allocate ([\d.]+ ?[KMG]i?B)"),
    re.compile(r"tried to allocate (\d+) bytes"),
    re.compile(r"Unable to allocate ([\d.]+ ?[KMG]i?B)"),
)
"""How torch on a GPU, torch on the CPU, and NumPy name the size that was refused."""


def allocation_failure(error: BaseException) -> str | None:
    """How much memory was asked for and refused, in words, if an error came of that; else None."""
    for each in chain_of(error):
        is_refusal = isinstance(each, torch.OutOfMemoryError | MemoryError)
        if is_refusal or (isinstance(each, RuntimeError) and REFUSED.search(str(each))):
            return wanted_size(str(each))
    return None


def wanted_size(text: str) -> str:
    """The size that a message names."""
    sizes = [match.group(1) for match in (pattern.search(text) for pattern in WANTED) if match is not None]
    if not sizes:
        return "how much was wanted is not said"
    return f"{int(sizes[0]) / 1e9:.2f} GB were wanted" if sizes[0].isdigit() else f"{sizes[0]} were wanted"
