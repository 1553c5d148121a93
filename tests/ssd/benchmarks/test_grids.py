"""Grids of settings: their cells, and the labelled image of the results."""

import pytest
from PIL import Image

from threestudio_ssd.benchmarks.grids import Cell, grid_cells, labelled_grid
from threestudio_ssd.errors import ConfigError


def test_a_cell_sets_every_key_of_its_axes():
    cells = grid_cells({"a.b": [1, 2], "c,d": ["3,4"]}, {"c,d": "both"})
    assert cells["2", "3,4"] == Cell("b=2 both=3,4", ("a.b=2", "c=3", "d=4"))
    assert len(cells) == 2


def test_a_grid_shows_edits_across_one_axis_and_cells_across_two(tmp_path):
    for kind in ("_source", "_truth", "a=1", "a=2", "a=1 b=3"):
        (tmp_path / kind).mkdir()
        for edit in ("one", "two"):
            Image.new("RGB", (64, 64)).save(tmp_path / kind / f"{edit}-0.png")
    along = {(value,): f"a={value}" for value in "12"}
    height = labelled_grid(along, tmp_path, ["one"], ["a"]).shape[0]
    assert height == 4 * (18 + 96 + 4)
    assert labelled_grid(along, tmp_path, ["one", "two"], ["a"]).shape[:2] == (height, 2 * 100)
    cell = {("1", "3"): "a=1 b=3"}
    assert labelled_grid(cell, tmp_path, ["one", "two"], ["a", "b"]).shape[:2] == (2 * 118, 200)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({}, "system.axes has 0 axes; expected one or two, each with values; "
         "write axes: {system.guidance.score.enhance_weight: [0, 5.5]}"),
        ({"a,b": ["1"]}, "system.axes: a,b has the value 1; expected 2 values, with commas between; "
         "write one value for each key"),
    ],
)  # fmt: skip
def test_wrong_axes_are_named(axes, message):
    with pytest.raises(ConfigError) as error:
        grid_cells(axes, {})
    assert str(error.value) == message
