"""The types used in annotations: Python's, the config's, and tensors with their shapes (jaxtyping)."""

from collections.abc import Callable, Iterable
from typing import Any, Dict, List, Literal, NamedTuple, NewType, Optional, Tuple, Type, TypeVar, Union  # noqa: UP035

from jaxtyping import Bool, Complex, Float, Inexact, Int, Integer, Num, Shaped, UInt
from omegaconf import DictConfig, ListConfig
from torch import Tensor

__all__ = [
    "Any",
    "Bool",
    "Callable",
    "Complex",
    "Dict",
    "DictConfig",
    "Float",
    "Inexact",
    "Int",
    "Integer",
    "Iterable",
    "List",
    "ListConfig",
    "Literal",
    "NamedTuple",
    "NewType",
    "Num",
    "Optional",
    "Shaped",
    "Tensor",
    "Tuple",
    "Type",
    "TypeVar",
    "UInt",
    "Union",
]
