"""Moments of a run: steps, or shares of it that mean the same in a run of any length."""

import pytest

from threestudio_ssd.edits.edit import due_steps, in_steps, is_interval, is_moment


def test_whole_numbers_count_steps_and_shares_are_of_the_run():
    assert due_steps(3, 9, 2, 100) == [4, 6, 8]
    assert due_steps(0, 9, 4, 6) == [4]
    assert due_steps(0.3, 0.9, 0.2, 10) == [4, 6, 8]
    assert due_steps(0.3, 9, 2, 10) == [4, 6, 8]
    assert (in_steps(1, 50), in_steps(1.0, 50)) == (1, 50)


@pytest.mark.parametrize("num_steps", [20, 37, 100, 300, 500, 1500, 12345])
def test_shares_give_the_same_number_in_runs_of_any_length(num_steps):
    """0.1, 0.2, .. as they are written, though three times 0.1 is not 0.3 in binary."""
    steps = due_steps(0.1, 0.9, 0.1, num_steps)
    assert steps == [round(num_steps * tenth / 10) for tenth in range(1, 10)]


def test_in_a_run_that_is_too_short_no_step_counts_twice_and_none_is_the_first():
    assert due_steps(0.0, 1.0, 0.01, 4) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("value", "a_moment", "an_interval"),
    [(0, True, False), (1, True, True), (5000, True, True), (0.0, True, False), (0.5, True, True), (1.0, True, True),
     (1.5, False, False), (-1, False, False), (-0.1, False, False)],
)  # fmt: skip
def test_what_can_be_a_moment(value, a_moment, an_interval):
    assert (is_moment(value), is_interval(value)) == (a_moment, an_interval)
