"""The state of the global random number generators."""

import random

import numpy as np
import torch

from threestudio.utils.rng import get_rng_state, set_rng_state


def draw():
    return [
        random.random(),
        random.gauss(0, 1),
        np.random.rand(),
        np.random.randn(),
        torch.rand(1).item(),
        torch.randn(1).item(),
    ]


def test_a_state_through_a_file_gives_the_same_numbers(tmp_path):
    draw()
    torch.save(get_rng_state(), tmp_path / "rng.pt")
    first, second = draw(), draw()
    assert first != second
    set_rng_state(torch.load(tmp_path / "rng.pt", weights_only=True))
    assert [draw(), draw()] == [first, second]
