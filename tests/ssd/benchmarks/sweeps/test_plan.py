"""What a sweep tries: grids, lists, values side by side, draws; what trials are called; what is refused."""

import pytest

from threestudio.plugins import REPOSITORY
from threestudio.utils.config import load_config, parse_structured
from threestudio.utils.config_files import read_file
from threestudio.utils.config_tree import complete
from threestudio_ssd.benchmarks.sweeps.keys import SweepKeys
from threestudio_ssd.benchmarks.sweeps.plan import grid_trials, plan_trials
from threestudio_ssd.errors import ConfigError


def plan(**keys):
    return plan_trials(parse_structured(SweepKeys, keys))


def changes(**keys):
    return [trial.changes for trial in plan(**keys)]


@pytest.mark.parametrize("name", ["strength", "search"])
def test_shipped_keys_are_a_sweep_of_the_default_config(name):
    keys = read_file(REPOSITORY / "configs" / "sweeps" / "keys" / f"{name}.yaml")
    trials = plan_trials(parse_structured(SweepKeys, keys))
    assert len(trials) >= 8
    for trial in trials[:2]:
        complete(load_config(REPOSITORY / "configs" / "ssd-gs.yaml", cli_args=trial.changes))


def test_a_trial_sets_every_key_of_its_axes():
    first, second = grid_trials({"a.b": [1, 2], "c,d": ["3,4"]}, {"c,d": "both"})
    assert (first.name, first.changes) == ("b=1 both=3,4", ("a.b=1", "c=3", "d=4"))
    assert second.changes == ("a.b=2", "c=3", "d=4")


def test_dots_and_groups_say_the_same():
    assert changes(grid={"a.b": [1, 2]}) == changes(grid={"a": {"b": [1, 2]}}) == [("a.b=1",), ("a.b=2",)]


def test_parts_are_combined():
    assert changes(grid={"a": [1, 2]}, zip={"b": [3, 4], "c": [5, 6]}) == [
        ("b=3", "c=5", "a=1"), ("b=3", "c=5", "a=2"), ("b=4", "c=6", "a=1"), ("b=4", "c=6", "a=2"),
    ]  # fmt: skip
    assert changes(list=[{"scene": "x.ply", "mask": {"box": [0, 1]}}, {"scene": "y.ply"}]) == [
        ("scene=x.ply", "mask.box=[0,1]"), ("scene=y.ply",),
    ]  # fmt: skip
    assert changes(grid={"a": [1, 2, 1]}, max_trials=1) == [("a=1",)]
    assert len(changes(grid={"a": [1, 2, 1]})) == 2


def test_values_are_written_as_a_command_line_has_them():
    (trial,) = plan(list=[{"source_prompt": "a man: 1", "w": 1e-05, "up": None, "clean": True}])
    assert trial.changes == ("source_prompt=a man: 1", "w=1e-05", "up=null", "clean=true")


def test_labels_are_as_short_as_can_be():
    trial = plan(grid={"system.a.weight": [1], "system.b.weight": [2], "steps": [3]})[0]
    assert trial.name == "a.weight=1 b.weight=2 steps=3"
    assert plan(grid={"x.y": [1]}, labels={"x.y": "way"})[0].name == "way=1"


DRAWN = {
    "steps": {"uniform": [100, 300]}, "rate": {"log_uniform": [1e-4, 1e-1]}, "score": {"choice": ["ssd", "dds"]},
    "way": {"uniform": [0.0, 1]},
}  # fmt: skip


def test_draws_stay_within_bounds_and_are_drawn_again():
    trials = plan(random=DRAWN, count=200, seed=1)
    values = {name: [trial.values[name] for trial in trials] for name in DRAWN}
    assert all(isinstance(step, int) and 100 <= step <= 300 for step in values["steps"])
    assert min(values["steps"]) < 110
    assert max(values["steps"]) > 290
    assert all(1e-4 <= rate <= 1e-1 for rate in values["rate"])
    assert 60 < sum(rate < 10**-2.5 for rate in values["rate"]) < 140
    assert set(values["score"]) == {"ssd", "dds"}
    assert any(isinstance(way, float) and 0.2 < way < 0.8 for way in values["way"])
    assert [trial.changes for trial in trials] == [trial.changes for trial in plan(random=DRAWN, count=200, seed=1)]
    assert trials != plan(random=DRAWN, count=200, seed=2)


def test_another_key_beside_it_leaves_a_draw_as_it_is():
    alone = plan(random={"steps": DRAWN["steps"]}, count=5)
    assert [t.values["steps"] for t in alone] == [t.values["steps"] for t in plan(random=DRAWN, count=5)]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "the sweep varies nothing; expected values for at least one key: sweep.grid, sweep.zip, sweep.list or "
         "sweep.random; write sweep.grid.steps=[300,600], for example"),
        ({"grid": {"steps": 5}}, "sweep.grid.steps is 5; expected a list of values; write sweep.grid.steps=[1,2], "
         "for example"),
        ({"zip": {"a": [1, 2], "b": [1]}}, "sweep.zip: a has 2, b has 1 values; expected lists of one length, whose "
         "values go together; give each key as many values, or use grid"),
        ({"grid": {"a,b": ["1"]}}, "the sweep sets a,b to 1; expected 2 values, with commas between; write one value "
         "for each key"),
        ({"random": {"steps": {"unform": [1, 2]}}}, "sweep.random has steps.unform; expected a key with one of: "
         "uniform, log_uniform, choice; did you mean uniform?"),
        ({"random": {"rate": {"log_uniform": [0, 1]}}}, "sweep.random.rate.log_uniform is [0, 1]; expected "
         "[low, high], both above 0; write sweep.random.rate.log_uniform=[1,10], for example"),
        ({"grid": {"a": [1]}, "max_trials": -1}, "sweep.max_trials is -1; expected at least 0; set sweep.max_trials=0"),
    ],
)  # fmt: skip
def test_what_is_no_sweep_is_named(keys, message):
    with pytest.raises(ConfigError) as error:
        plan(**keys)
    assert str(error.value) == message
