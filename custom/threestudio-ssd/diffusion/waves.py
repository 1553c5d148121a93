"""Numbers as a network reads them well: with sines and cosines of their multiples."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def num_waves(num_values: int, octaves: int) -> int:
    """How many numbers ``waves`` makes of so many values."""
    return num_values * (1 + 2 * octaves)


def waves(values: Float[Tensor, "*b n"], octaves: int) -> Float[Tensor, "*b f"]:
    """Values of about -1 to 1, with sines and cosines of their multiples (NeRF, arXiv:2003.08934, equation 4)."""
    turns = [values * (math.pi * 2**power) for power in range(octaves)]
    return torch.cat([values, *(turn.sin() for turn in turns), *(turn.cos() for turn in turns)], dim=-1)
