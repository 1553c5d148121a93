"""Whether colours ran away."""

import pytest
import torch

from threestudio_ssd.metrics import hidden_ones, read_colors


def grid():
    return torch.cartesian_prod(torch.arange(5.0), torch.arange(5.0), torch.arange(1.0))


def test_an_even_surface_has_no_speckle_and_one_odd_point_has():
    means, rgbs = grid(), torch.full((25, 3), 0.4)
    none_hidden = torch.zeros(25, dtype=torch.bool)
    reading = read_colors(means, rgbs, none_hidden)
    assert reading.out_of_range == 0
    assert reading.speckle_visible == pytest.approx(0, abs=1e-6)
    assert reading.speckle_hidden is None
    rgbs[12] = torch.tensor([1.2, 0.4, -0.4])
    hidden = none_hidden.clone()
    hidden[12] = True
    reading = read_colors(means, rgbs, hidden)
    assert reading.out_of_range == pytest.approx(1 / 25)
    assert reading.speckle_hidden == pytest.approx((0.8 + 0.8) / 3)
    assert 0 < reading.speckle_visible < 0.1


def test_a_little_beyond_white_counts_as_in_range_and_nothing_has_no_figure():
    means = grid()
    assert read_colors(means, torch.full((25, 3), 1.015), torch.zeros(25, dtype=torch.bool)).out_of_range == 0
    assert read_colors(means[:0], torch.zeros(0, 3), torch.zeros(0, dtype=torch.bool)) == (None, None, None)
    assert read_colors(means[:1], torch.zeros(1, 3), torch.zeros(1, dtype=torch.bool)).speckle_visible == 0


def test_hidden_is_a_tenth_of_the_mean():
    assert hidden_ones(torch.tensor([0.0, 1.0, 10.0, 29.0])).tolist() == [True, False, False, False]
