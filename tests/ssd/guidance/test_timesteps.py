"""Which timestep belongs to which step."""

import pytest
import torch

from threestudio_ssd.errors import ConfigError
from threestudio_ssd.guidance.timesteps import (
    SCHEDULES,
    check_range,
    check_sampler,
    check_trained,
    nearest,
    timestep_at,
)

PAPER = {"num_timesteps": 1000, "t_min_frac": 0.02, "t_max_frac": 0.98}


def run_of(schedule, num_steps, **options):
    return [timestep_at(schedule, step, num_steps, **{**PAPER, **options}) for step in range(num_steps)]


def test_linear_is_the_paper_s():
    values = run_of("linear", 1500)
    assert values[0] == 980
    assert values[-1] == 20
    expected = [int(980 - 960 * step / 1500) for step in range(1500)]
    assert max(abs(value - wanted) for value, wanted in zip(values, expected, strict=True)) <= 1
    assert values[750] == 500


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("num_steps", [1, 2, 7, 300])
@pytest.mark.parametrize("fracs", [(0.02, 0.98), (0.2, 0.9), (0.5, 0.55)])
def test_deterministic_schedules_fall_within_the_range(schedule, num_steps, fracs):
    values = run_of(schedule, num_steps, t_min_frac=fracs[0], t_max_frac=fracs[1])
    assert values[0] == int(1000 * fracs[1])
    assert all(later <= earlier for earlier, later in zip(values, values[1:], strict=False))
    assert min(values) >= int(1000 * fracs[0])


@pytest.mark.parametrize("schedule", ["linear", "square-root", "cosine"])
def test_schedules_reach_the_lower_end(schedule):
    assert run_of(schedule, 3000)[-1] == 20


def test_a_few_step_model_gets_the_nearest_of_its_timesteps():
    assert [nearest(t, [249, 499, 749]) for t in (0, 373, 374, 375, 500, 624, 625, 999)] == [
        249, 249, 249, 499, 499, 499, 749, 749
    ]  # fmt: skip
    assert nearest(123, []) == 123


def test_timesteps_that_the_model_does_not_have_are_refused():
    check_trained([0, 999], 1000)
    with pytest.raises(ConfigError) as caught:
        check_trained([249, 1000], 1000)
    assert caught.value.what == "only_timesteps holds 1000"
    assert caught.value.expected == "timesteps from 0 to 999"


def test_square_root_and_cosine_values():
    assert timestep_at("square-root", 25, 100, **PAPER) == 500
    assert timestep_at("cosine", 50, 100, **PAPER) == 500
    assert timestep_at("cosine", 25, 100, **PAPER) == int(20 + 960 * 0.5 * (1 + 0.5**0.5))


def test_dream_time_spends_its_steps_where_the_weight_is():
    values = torch.tensor(run_of("dream-time", 1000))
    t = torch.arange(20, 981).double()
    weight = torch.where(t > 800, torch.exp(-((t - 800) ** 2) / 180000), torch.ones_like(t))
    weight = torch.where(t < 500, torch.exp(-((t - 500) ** 2) / 20000), weight)
    for low, high in ((20, 400), (400, 600), (600, 800), (800, 981)):
        wanted = float(weight[(t >= low) & (t < high)].sum() / weight.sum())
        share = float(((values >= low) & (values < high)).double().mean())
        assert share == pytest.approx(wanted, abs=0.005)


@pytest.mark.parametrize("schedule", [*SCHEDULES, "uniform"])
@pytest.mark.parametrize("step", [-1, 1500, 1501])
def test_steps_outside_the_run_are_refused(schedule, step):
    with pytest.raises(ValueError, match=f"step {step} is outside the schedule of 1500 steps"):
        timestep_at(schedule, step, 1500, **PAPER)


def test_uniform_follows_its_generator_and_covers_the_range():
    def draws(seed):
        generator = torch.Generator().manual_seed(seed)
        return [timestep_at("uniform", 0, 1, **PAPER, generator=generator) for _ in range(3000)]

    first = draws(1)
    assert first == draws(1)
    assert first != draws(2)
    assert 20 <= min(first) < 30
    assert 970 < max(first) <= 980
    assert sum(first) / len(first) == pytest.approx(500, abs=20)


def test_an_offset_is_the_released_schedule():
    """trunc((M - m)(I - i) / I + m) in whole numbers, read off a list that counts from 1 (SSD's guidance)."""
    values = run_of("linear", 1500, offset=1)
    assert values == [(960 * (1500 - step)) // 1500 + 20 + 1 for step in range(1500)]
    assert (values[0], values[150], values[750], values[-1]) == (981, 885, 501, 21)


def test_a_sampler_of_500_steps_has_odd_timesteps():
    """DreamCatalyst's straight line over 3,000 steps, and PDS's draws from [0.02, 0.98)."""
    options = {"num_timesteps": 1000, "stride": 2, "offset": 1}
    line = [timestep_at("linear", i, 3000, t_min_frac=0.2, t_max_frac=0.9, **options) for i in range(3000)]
    assert line == [2 * ((350 * (3000 - i)) // 3000 + 100) + 1 for i in range(3000)]
    assert (line[0], line[-1]) == (901, 201)
    generator = torch.Generator().manual_seed(0)
    ends = {"t_min_frac": 0.02, "t_max_frac": 0.978, "generator": generator}
    draws = {timestep_at("uniform", 0, 1, **ends, **options) for _ in range(20_000)}
    assert draws == set(range(21, 980, 2))


@pytest.mark.parametrize(
    ("stride", "offset", "what", "expected"),
    [
        (0, 0, "system.guidance.timestep_stride is 0", "1 to 1000"),
        (1001, 0, "system.guidance.timestep_stride is 1001", "1 to 1000"),
        (1, -1, "system.guidance.timestep_offset is -1, and the schedule starts at 980", "0 to 19"),
        (2, 20, "system.guidance.timestep_offset is 20, and the schedule starts at 980", "0 to 19"),
    ],
)
def test_samplers_beyond_the_model_are_refused(stride, offset, what, expected):
    check_sampler(1, 19, 0.98, 1000)
    with pytest.raises(ConfigError) as caught:
        check_sampler(stride, offset, 0.98, 1000)
    assert (caught.value.what, caught.value.expected) == (what, expected)


def test_a_model_with_few_timesteps():
    values = run_of("linear", 10, num_timesteps=50)
    assert values[0] == 49
    assert min(values) >= 1


@pytest.mark.parametrize("fracs", [(0.0, 0.98), (0.5, 0.5), (0.6, 0.5), (0.02, 1.0), (-0.1, 0.5)])
def test_ranges_that_cannot_be_are_refused(fracs):
    with pytest.raises(ConfigError) as error:
        check_range(*fracs, "linear")
    assert error.value.what == f"t_min_frac is {fracs[0]} and t_max_frac is {fracs[1]}"
