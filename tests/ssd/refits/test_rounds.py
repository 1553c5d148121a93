"""Rounds as a config lists them, and where they lie in a run."""

import pytest

from threestudio_ssd.errors import ConfigError
from threestudio_ssd.refits.rounds import Round, Schedule, rounds_from


def test_rounds_fill_a_run_of_any_length():
    rounds = rounds_from([{"strength": 0.9, "steps": 100, "carve": "views"}, {"strength": 0.3, "steps": 300}])
    assert rounds == [Round(0.9, 100, carve="views"), Round(0.3, 300)]
    for length in (400, 40, 4):
        schedule = Schedule(rounds, length)
        assert [step for step in range(length) if schedule.begins(step)] == [0, length // 4]
        assert [schedule.index(step) for step in (0, length // 4 - 1, length // 4, length - 1)] == [0, 0, 1, 1]
    assert [schedule.share(step) for step in (0, 1, 2, 3)] == [0, 0, 1 / 3, 2 / 3]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([], "system.rounds is empty"),
        ([{"strength": 0.9}], "system.rounds[0] is {'strength': 0.9}"),
        ([3], "system.rounds[0] is 3"),
        ([{"strength": 0, "steps": 1}], "system.rounds[0].strength is 0.0"),
        ([{"strength": 0.5, "steps": 1}, {"strength": 0.5, "steps": 0}], "system.rounds[1].steps is 0.0"),
        ([{"strength": 0.5, "steps": 1, "rate": 2}], "system.rounds[0].rate is not a field of the list of rounds"),
        ([{"strength": 0.5, "steps": 1, "rates": -2}], "system.rounds[0].rates is -2.0"),
        ([{"strength": 0.5, "steps": 1, "carve": "all"}], "system.rounds[0].carve is 'all'"),
    ],
)
def test_bad_rounds_are_named(words, what):
    with pytest.raises(ConfigError) as error:
        rounds_from(words)
    assert error.value.what == what
