"""The types used in annotations: Python's, the config's, and tensors with their shapes (jaxtyping)."""

from collections.abc import Callable
from typing import Any, Dict, List, Literal, NamedTuple, Optional, Tuple, Union  # noqa: UP035

from jaxtyping import Bool, Float, Int, Integer, Num, Shaped
from omegaconf import DictConfig
from torch import Tensor

__all__ = [
    "Any",
    "Bool",
    "Callable",
    "Dict",
    "DictConfig",
    "Float",
    "Int",
    "Integer",
    "List",
    "Literal",
    "NamedTuple",
    "Num",
    "Optional",
    "Shaped",
    "Tensor",
    "Tuple",
    "Union",
]
