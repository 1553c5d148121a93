"""The F-score of outlines, on squares whose outlines are known."""

import pytest
import torch

from threestudio_ssd.metrics.boundary import boundary_f_score


def square(left, top, side):
    mask = torch.zeros(1, 40, 40, dtype=torch.bool)
    mask[:, top : top + side, left : left + side] = True
    return mask


def test_the_same_outline_is_one_and_a_far_one_is_nothing():
    assert float(boundary_f_score(square(5, 5, 10), square(5, 5, 10))) == 1
    assert float(boundary_f_score(square(2, 2, 6), square(30, 30, 6))) == 0


@pytest.mark.parametrize(("shift", "expected"), [(1, 1.0), (2, 1.0), (3, 0.0)])
def test_the_tolerance_is_counted_in_pixels(shift, expected):
    larger = square(10 - shift, 10 - shift, 20 + 2 * shift)
    value = float(boundary_f_score(square(10, 10, 20), larger, tolerance=2.0))
    assert value == pytest.approx(expected, abs=0.15)


def test_half_of_an_outline_counts_by_precision_and_recall():
    half = square(10, 10, 20)
    half[:, 20:] = False
    # its own lower edge is wrong: 58 - 16 of its 56 pixels, and about half of the square's 76, are near
    assert 0.55 < float(boundary_f_score(half, square(10, 10, 20), tolerance=1.0)) < 0.75


def test_nothing_against_nothing_is_right_and_against_something_is_not():
    nothing, something = torch.zeros(1, 40, 40, dtype=torch.bool), square(5, 5, 10)
    assert float(boundary_f_score(nothing, nothing)) == 1
    assert float(boundary_f_score(nothing, something)) == 0
