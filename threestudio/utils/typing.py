"""The types used in annotations: Python's, the config's, and tensors with their shapes (jaxtyping)."""

from collections.abc import Callable
from typing import Any, Dict, List, Literal, NamedTuple, Optional, Tuple, Union

from jaxtyping import Bool, Float, Int, Integer, Num, Shaped
from omegaconf import DictConfig
from torch import Tensor
