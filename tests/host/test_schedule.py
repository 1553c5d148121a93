"""Values that change while a run goes on."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from threestudio.utils.misc import C
from threestudio.utils.resolvers import C_max
from threestudio.utils.schedule import largest_value, schedule_problem, value_at


@pytest.mark.parametrize(
    ("written", "step", "value"),
    [
        (2, 7, 2),
        (2.5, 7, 2.5),
        ([1.0, 3.0, 10], 5, 2.0),
        ([10, 1.0, 3.0, 20], 0, 1.0),
        ([10, 1.0, 3.0, 20], 15, 2.0),
        ([10, 1.0, 3.0, 20], 99, 3.0),
        ([0, 1.0, 3.0, 10, 0.0, 20], 5, 2.0),
        ([0, 1.0, 3.0, 10, 0.0, 20], 10, 3.0),
        ([0, 1.0, 3.0, 10, 0.0, 20], 15, 1.5),
        ([0, 1.0, 3.0, 10, 0.0, 20], 99, 0.0),
        ([0, 1.0, 3.0, 10, 3.0, 20, 7.0, 40], 30, 5.0),
    ],
)
def test_steps(written, step, value):
    assert C(written, 0, step) == pytest.approx(value, abs=1e-12)
    assert C(OmegaConf.create(written) if isinstance(written, list) else written, 0, step) == pytest.approx(value)


def test_a_decimal_point_counts_epochs():
    assert C([0, 0.0, 1.0, 10.0], 5, 1000) == 0.5
    assert C([0, 0.0, 1.0, 10], 5, 1000) == 1.0


def test_exponential_interpolation_keeps_the_ratio():
    values = [C([0, 1.0, 16.0, 4], 0, step, interpolation="exp") for step in range(5)]
    assert values == pytest.approx([1.0, 2.0, 4.0, 8.0, 16.0])
    with pytest.raises(ValueError, match="values > 0"):
        C([0, 0.0, 16.0, 4], 0, 1, interpolation="exp")
    with pytest.raises(ValueError, match="expected linear or exp"):
        C([0, 1.0, 16.0, 4], 0, 1, interpolation="cubic")


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=6),
    st.lists(st.integers(1, 50), min_size=6, max_size=6),
    st.integers(0, 400),
)
def test_a_schedule_is_continuous_and_stays_between_its_values(values, gaps, step):
    steps = [sum(gaps[: i + 1]) for i in range(len(values))]
    written = [steps[0], values[0]]
    for value, at in zip(values[1:], steps[1:], strict=False):
        written += [value, at]
    now, following = value_at(written, 0, step), value_at(written, 0, step + 1)
    slack = 1e-9 * max(1.0, *map(abs, values))
    assert min(values) - slack <= now <= max(values) + slack
    steepest = max(
        (abs(b - a) / (t - s) for a, b, s, t in zip(values, values[1:], steps, steps[1:], strict=False)), default=0.0
    )
    assert abs(following - now) <= steepest + slack
    for value, at in zip(values, steps, strict=False):
        assert math.isclose(value_at(written, 0, at), value, abs_tol=1e-9)


@pytest.mark.parametrize(
    "wrong", ["fast", True, None, [1], [1, 2], [0, 1, 2, 3, 4], [0, 1, "a", 3], [5, 1, 2, 5], [0, 1, math.nan, 3]]
)
def test_wrong_forms_are_refused(wrong):
    assert schedule_problem(wrong) is not None
    with pytest.raises(ValueError, match="expected a number"):
        value_at(wrong, 0, 0)


def test_the_largest_value():
    assert largest_value([0, 1.0, 3.0, 10, 0.0, 20]) == 3.0
    assert largest_value([4.0, 3.0, 10]) == 4.0
    assert C_max(OmegaConf.create([0, 1.0, 3.0, 10])) == 3.0
    assert C_max(2) == 2
