"""The state of every global random number generator, as tensors and plain values that a checkpoint may hold."""

import random
from typing import Any

import numpy as np
import torch


def get_rng_state() -> dict:
    """State of Python's, NumPy's, torch's and every GPU's generator."""
    version, words, gauss = random.getstate()
    numpy_state: Any = np.random.get_state()
    kind, keys, position, has_gauss, cached = numpy_state
    return {
        "python": [version, list(words), gauss],
        "numpy": [str(kind), torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "mps": [torch.mps.get_rng_state()] if torch.backends.mps.is_available() else [],
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_rng_state(state: dict) -> None:
    """Set every generator back; states of GPUs that this machine lacks are left out."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if torch.backends.mps.is_available():
        for mps_state in state.get("mps", []):
            torch.mps.set_rng_state(mps_state.cpu())
    if torch.cuda.is_available():
        for index, cuda_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(cuda_state.cpu(), index)
