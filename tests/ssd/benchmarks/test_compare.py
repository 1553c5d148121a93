"""Results side by side and candidates to choose from: pictures of the right contents, one page, nothing made twice."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.edit_world import QUIET, experiment
from threestudio import apps
from threestudio.run import main
from threestudio_ssd.benchmarks.candidates import RANKED_BY, make_candidates, ranked
from threestudio_ssd.benchmarks.compare import views_of
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.gaussians.io import load_gaussians, save_gaussians
from threestudio_ssd.report.results import find_result


@pytest.fixture(scope="module")
def chosen(world, tmp_path_factory):
    """Two candidates, made once."""
    out = tmp_path_factory.mktemp("candidates")
    cfg = experiment(world, out, tag="edit", **{**QUIET, "system.preview_every": 0})
    assert apps.start("candidates", cfg, ["n_candidates=2"]) == 0
    return cfg, out / "smoke" / "edit-candidates"


def test_all_candidates_are_kept_and_the_best_is_exported(chosen):
    _, folder = chosen
    rows = json.loads((folder / "candidates.json").read_text())["best_first"]
    assert {row["seed"] for row in rows} == {0, 1}
    assert [row["rank"] for row in rows] == [1, 2]
    results = [(folder / "candidates" / f"seed-{row['seed']}" / "save" / "edited.ply").read_bytes() for row in rows]
    assert results[0] != results[1]
    assert (folder / "save" / "edited.ply").read_bytes() == results[0]
    for row in rows:
        report = json.loads((folder / "candidates" / f"seed-{row['seed']}" / "save" / "report.json").read_text())
        assert report["seed"] == row["seed"]
        assert report["clip_directional_similarity"] == row["clip_directional_similarity"]
    assert Image.open(folder / "candidates.png").size[1] > 3 * 256


def test_a_finished_candidate_is_not_made_again(chosen, monkeypatch):
    cfg, folder = chosen
    before = (folder / "candidates.json").read_bytes()
    monkeypatch.setattr("threestudio.trainer.run_experiment", None)
    assert make_candidates(cfg, 2, folder).splitlines()[-1] == str(folder / "save" / "edited.ply")
    assert (folder / "candidates.json").read_bytes() == before


def test_candidates_of_another_edit_are_refused(chosen, world):
    cfg, folder = chosen
    other = experiment(world, folder, strength=0.5, **QUIET)
    with pytest.raises(ConfigError, match="was made with system.strength"):
        make_candidates(other, 2, folder)


def test_the_rank_is_the_mean_place_and_what_failed_comes_last():
    def row(seed, *figures, usable=True):
        return {"seed": seed, "usable": usable, **dict(zip(RANKED_BY, figures, strict=True))}

    rows = [row(0, 0.5, 60.0, 0.02), row(1, 0.9, 50.0, 0.01), row(2, None, None, None, usable=False),
            row(3, 0.1, 40.0, 0.03)]  # fmt: skip
    assert [(each["seed"], each["rank"]) for each in ranked(rows)] == [(1, 1), (0, 2), (3, 3), (2, None)]
    without = [row(0, 0.5, None, 0.02), row(1, 0.4, None, 0.02)]
    assert [each["seed"] for each in ranked(without)] == [0, 1]
    assert ranked([row(0, None, None, None, usable=False)])[0]["rank"] is None


def test_a_page_shows_every_result_in_the_first_one_s_views(chosen, world, tmp_path, page):
    _, folder = chosen
    runs = [str(folder / "candidates" / f"seed-{seed}") for seed in (0, 1)]
    out = tmp_path / "out"
    words = [*runs, str(world / "scene.ply"), "views=2", "size=32", f"out={out}"]
    assert main(["--run", "compare", *words]) == 0
    text = (out / "compare.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', text)
    page.goto((out / "compare.html").as_uri())
    assert page.locator("img").count() == 6
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth == 32)")
    assert page.locator("tr").first.locator("th").all_inner_texts()[1:] == ["seed-0", "seed-1", "scene.ply"]
    assert page.locator("tr", has_text="seed").locator("td").all_inner_texts()[-3:] == ["0", "1", "-"]
    cameras, _ = views_of(find_result(runs[0]), "", 2, 32)
    assert cameras.names[0] in text


def test_splats_of_any_tool_are_seen_from_an_orbit(world, tmp_path):
    scene = load_gaussians(world / "scene.ply")
    save_gaussians(scene.replace(sh0=scene.sh0 * 0), tmp_path / "grey.splat")
    words = [str(tmp_path / "grey.splat"), str(world / "scene.ply"), "views=1", "size=64", f"out={tmp_path}"]
    assert main(["--run", "compare", *words]) == 0
    picture = np.asarray(Image.open(tmp_path / "compare.png").convert("RGB")).astype(int)
    left = picture[20:80, :60]
    assert np.abs(left - left.mean(axis=-1, keepdims=True)).max() <= 2  # no colour
    assert np.abs(picture - picture.mean(axis=-1, keepdims=True)).max() > 50


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "error: --run compare was given no results"),
        (["nowhere"], "error: nowhere does not exist"),
        (["SCENE", "views=0"], "error: views is 0; expected at least 1; set views=4"),
    ],
)
def test_mistakes_cost_a_line(words, message, world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--run", "compare", *(word.replace("SCENE", str(world / "scene.ply")) for word in words)]) == 2
    assert capsys.readouterr().err.startswith(message)
    assert not list(tmp_path.iterdir())
