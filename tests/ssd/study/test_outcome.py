"""Votes read strictly, shares and their intervals against independent calculations, tables and page."""

import csv

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap

from tests.ssd.study.conftest import METHODS
from threestudio.run import main
from threestudio_ssd.errors import SceneFormatError
from threestudio_ssd.study.shares import pairwise, shares, wilson
from threestudio_ssd.study.votes import Vote, read_votes, votes_text

RESAMPLES = 4000


def letter_of(question: dict, method: str) -> str:
    return next(letter for letter, option in question["options"].items() if option["method"] == method)


def rows_of(key, participant: str, method: str):
    """Somebody who votes for one method always."""
    return [
        (key["study"], participant, question["id"], asked, letter_of(question, method))
        for question in key["questions"]
        for asked in ("follows", "keeps")
    ]


@pytest.mark.parametrize(("votes", "shown"), [(0, 5), (3, 10), (41, 100), (7, 7)])
def test_wilson_is_scipys(votes, shown):
    expected = binomtest(votes, shown).proportion_ci(0.95, method="wilson")
    assert wilson(votes, shown) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_shares_and_the_bootstrap_over_participants():
    votes = [
        Vote(f"p{person}", "follows", METHODS, METHODS[0] if (person * 7 + question) % 10 < person else METHODS[1])
        for person in range(8)
        for question in range(5)
    ]
    by_person = [
        np.mean([vote.method == METHODS[0] for vote in votes if vote.participant == f"p{i}"]) for i in range(8)
    ]
    found = {each.method: each for each in shares(votes, RESAMPLES, 0)}
    assert found["ssd"].share == pytest.approx(np.mean(by_person))
    assert found["folder"].votes == 0
    expected = bootstrap((by_person,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=1).confidence_interval
    assert found["ssd"].bootstrap == pytest.approx((expected.low, expected.high), abs=0.03)
    assert shares(votes[:5], RESAMPLES, 0)[0].bootstrap is None


def test_pairs_leave_out_what_chose_a_third_and_halve_ties():
    votes = [Vote("a", "keeps", METHODS, method) for method in ("ssd", "ssd", "dds", "folder")]
    votes.append(Vote("judge:m", "keeps", ("ssd", "dds"), None))
    pair = next(each for each in pairwise(votes, 100, 0) if (each.method, each.against) == ("dds", "ssd"))
    assert (pair.votes, pair.asked, pair.ties) == (1.5, 4, 1)
    assert pair.wilson == wilson(1.5, 4)


def test_a_report_of_several_files(page, study, key, tmp_path, capsys):
    people = {"ann": "ssd", "bob": "ssd", "cy": "dds"}
    files = []
    for name, method in people.items():
        files.append(tmp_path / f"{name}.csv")
        files[-1].write_text(votes_text(rows_of(key, name, method)), encoding="utf-8-sig")
    judged = [(key["study"], "judge:vlm", pair["id"], "follows", "tie") for pair in key["pairs"]]
    files.append(tmp_path / "judge.csv")
    files[-1].write_text(votes_text(judged))
    command = ["--run", "study-report", *map(str, files), f"key={study / 'study-key.json'}", f"out={tmp_path / 'out'}"]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert text.rstrip().endswith("report.html")
    assert "3 voted 12 times." in text
    assert "| ssd | 8 | 12 | 66.7% |" in text
    with (tmp_path / "out" / "shares.csv").open() as file:
        lines = list(csv.DictReader(file))
    line = next(
        each for each in lines if (each["voters"], each["asked"], each["method"]) == ("People", "follows", "ssd")
    )
    assert (float(line["votes"]), float(line["shown"]), float(line["share"])) == pytest.approx((4, 6, 2 / 3))
    assert float(line["participants_low"]) < float(line["wilson_low"]) < 2 / 3
    judge = [each for each in lines if each["voters"] == "judge vlm" and each["asked"] == "follows" and each["against"]]
    assert {(each["share"], each["ties"]) for each in judge} == {("0.5", "2")}
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto((tmp_path / "out" / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert "66.7%" in page.locator(".share").first.inner_text()


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (lambda rows: rows[0].__setitem__(0, "another"), 2, "is of the study another; expected votes of the study"),
        (lambda rows: rows[1].__setitem__(2, "q9"), 3, "names the question q9; expected one of q1, q2"),
        (lambda rows: rows[1].__setitem__(2, "p1"), 3, "names the question p1; expected one of q1, q2"),
        (lambda rows: rows[2].__setitem__(3, "likes"), 4, "asks likes; expected one of follows, keeps"),
        (lambda rows: rows[3].__setitem__(4, "D"), 5, "chooses D; expected one of A, B, C"),
        (lambda rows: rows[3].__setitem__(4, "tie"), 5, "chooses tie; expected one of A, B, C"),
        (lambda rows: rows[0].__setitem__(1, ""), 2, "names no participant"),
        (lambda rows: rows[2].pop(), 4, "has 4 values; expected 5"),
        (lambda rows: rows.append(list(rows[0])), 6, "ann answered that in"),
    ],
)
def test_a_bad_line_is_refused_by_file_and_line(key, tmp_path, change, line, message):
    rows = [list(row) for row in rows_of(key, "ann", "ssd")]
    change(rows)
    path = tmp_path / "bad.csv"
    path.write_text(votes_text(rows))
    with pytest.raises(SceneFormatError) as caught:
        read_votes([str(path)], key)
    assert str(caught.value).startswith(f"{path}:{line} ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "bad.csv:1 has other columns"), (b"a,b\n", "bad.csv:1 has other columns"), (b"\xff\xfe\x00", "is no CSV")],
)
def test_what_is_no_file_of_votes_is_refused(key, study, tmp_path, capsys, content, message):
    (tmp_path / "bad.csv").write_bytes(content)
    command = ["--run", "study-report", str(tmp_path / "bad.csv"), f"out={tmp_path / 'out'}"]
    assert main([*command, f"key={study / 'study-key.json'}"]) == 2
    assert message in capsys.readouterr().err
    assert main(command) == 2
    assert "key is empty" in capsys.readouterr().err
    assert main([*command, f"key={tmp_path / 'bad.csv'}"]) == 2
    assert main(["--run", "study-report", f"key={study / 'study-key.json'}"]) == 2
    assert "was given no votes" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
