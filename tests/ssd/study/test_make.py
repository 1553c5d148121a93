"""A study: who is shown what, what the page tells and does not tell, and how one votes in a browser."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from tests.ssd.study.conftest import METHODS, WORDS, make

PHONE = {"width": 390, "height": 844}


def test_every_edit_is_a_question_and_every_pair_is_for_the_judge(study, key):
    assert sorted(question["target_prompt"] for question in key["questions"]) == sorted(WORDS)
    for question in key["questions"]:
        assert sorted(option["method"] for option in question["options"].values()) == sorted(METHODS)
        assert list(question["options"]) == ["A", "B", "C"]
    assert len(key["pairs"]) == 2 * 3
    for question in [*key["questions"], *key["pairs"]]:
        for file in [question["source"], *(option["file"] for option in question["options"].values())]:
            assert (study / "page" / "pictures" / file).stat().st_size > 100


def test_all_are_seen_by_the_same_cameras(study, key):
    """Pictures of one edit differ in the ball alone: what is around it is at the same place in all of them."""
    question = key["questions"][0]
    pictures = {
        name: np.asarray(Image.open(study / "page" / "pictures" / file).convert("RGB"), int)
        for name, file in {
            "": question["source"],
            **{o["method"]: o["file"] for o in question["options"].values()},
        }.items()
    }
    assert {picture.shape for picture in pictures.values()} == {(64, 64, 3)}
    for method in METHODS:
        change = np.abs(pictures[method] - pictures[""]).max(-1)
        assert (change > 40).any()
        assert (change < 12).mean() > 0.5


def test_the_page_does_not_say_whose_results_they_are(study, runs):
    for path in (study / "page").rglob("*"):
        if path.is_file() and path.suffix == ".html":
            text = path.read_text(encoding="utf-8")
            assert not [word for word in ("dds", "edited.ply", *(run.name for run in runs)) if word in text]
            assert "key.json" not in text
    assert not (study / "page" / "study-key.json").exists()


def test_the_order_is_of_the_seed(runs, study, key, tmp_path):
    assert make(runs, tmp_path / "again") == 0
    assert (tmp_path / "again" / "study-key.json").read_text() == (study / "study-key.json").read_text()

    def orders(seed: int) -> str:
        out = tmp_path / f"seed-{seed}"
        assert make(runs[::2], out, f"seed={seed}", "labels=[a,b,c]", "views=1") == 0
        (question,) = json.loads((out / "study-key.json").read_text())["questions"]
        return "".join(option["method"] for option in question["options"].values())

    assert len({orders(seed) for seed in range(4)}) > 1


def test_pairs_and_videos(runs, tmp_path):
    assert make([runs[0], runs[2], runs[4]], tmp_path, "show=pairs", "video_frames=2") == 0
    key = json.loads((tmp_path / "study-key.json").read_text())
    assert [len(question["options"]) for question in key["questions"]] == [2, 2, 2]
    assert key["questions"][0]["source"].endswith(".mp4")
    assert "<video" in (tmp_path / "page" / "index.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (lambda runs: [], "--run study was given no results; expected two or more run folders"),
        (lambda runs: runs[:1], "there is one result of 'a blue ball'"),
        (lambda runs: [runs[0], runs[0]], "two results of 'a blue ball' are called ssd"),
        (lambda runs: [*runs[:2], "labels=[a]"], "labels has 1 names; expected 2, one for each result"),
        (lambda runs: [runs[0].parent], "holds no save/report.json; expected the folder of a run that ended"),
        (lambda runs: [runs[0].parent / "none.ply"], "none.ply does not exist; expected a splat file"),
        (lambda runs: [runs[0].parent / "scene.ply"], "is a splat, and source or target_prompt is empty"),
        (lambda runs: [*runs, "video_frames=-1"], "run.video_frames is -1; expected at least 0; set run.video_"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(runs, tmp_path, capsys, words, message):
    assert make(words(runs), tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_another_study_is_not_written_over(runs, study, key, capsys):
    assert make(runs[::2], study) == 2
    assert "holds another study, whose votes could no longer be read" in capsys.readouterr().err
    assert json.loads((study / "study-key.json").read_text()) == key


def test_one_votes_with_keys_and_downloads(page, study, key):
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto((study / "page" / "index.html").as_uri())
    page.keyboard.press("Enter")
    for number, question in enumerate(key["questions"]):
        assert page.locator(".question:visible").get_attribute("data-id") == question["id"]
        assert question["target_prompt"] in page.locator(".question:visible h2").inner_text()
        page.keyboard.press("Enter")
        assert page.locator(".question:visible").count() == 1, "it goes on before both are answered"
        page.keyboard.press("x")
        page.keyboard.press("b" if number else "c")
        page.keyboard.press("a")
        page.keyboard.press("ArrowRight")
    with page.expect_download() as caught:
        page.get_by_role("button", name="Download votes").click()
    text = caught.value.path().read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["question"], row["asked"], row["choice"]) for row in rows] == [
        ("q1", "follows", "C"), ("q1", "keeps", "A"), ("q2", "follows", "B"), ("q2", "keeps", "A"),
    ]  # fmt: skip
    assert {row["study"] for row in rows} == {key["study"]}
    assert caught.value.suggested_filename == f"votes-{rows[0]['participant']}.csv"
    assert all(url.startswith(((study / "page").as_uri(), "blob:")) for url in requests)


def test_what_is_not_finished_is_kept_and_fits_a_phone(browser, study):
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto((study / "page" / "index.html").as_uri())
    page.get_by_role("button", name="Begin").tap()
    page.locator(".question:visible fieldset").first.get_by_text("B", exact=True).tap()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.reload()
    assert page.locator(".question:visible input:checked").get_attribute("value") == "B"
    assert page.locator(".question:visible .next").is_disabled()
    widths = page.locator(".question:visible img").evaluate_all("images => images.map((image) => image.naturalWidth)")
    assert len(widths) == 4
    context.close()
