"""Labelled images of results."""

from PIL import Image

from threestudio_ssd.benchmarks.grids import labelled_grid


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
