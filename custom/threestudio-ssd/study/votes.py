"""Votes of a study: a line each, read strictly, so that a share never rests on a line that means nothing."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..early import named
from ..errors import ConfigError, SceneFormatError
from .make import ASKED

COLUMNS = ("study", "participant", "question", "asked", "choice")
TIE = "tie"
"""The choice of a judge whose answer changes with the order of the two."""
JUDGE = "judge:"
"""What the participant of a judge's votes begins with; its model follows."""
MOST_BYTES = 1 << 25


class Vote(NamedTuple):
    """What somebody said to one question.

    Attributes:
        participant: Who.
        asked: What, of ``ASKED``.
        options: The methods that were shown.
        method: The one that was chosen; None for a tie.
    """

    participant: str
    asked: str
    options: tuple[str, ...]
    method: str | None

    @property
    def is_of_judge(self) -> bool:
        """Whether a model said it."""
        return self.participant.startswith(JUDGE)


def read_votes(paths: Sequence[str], key: Mapping[str, Any]) -> list[Vote]:
    """All votes of some files.

    Args:
        paths: CSV files.
        key: Of the study.

    Raises:
        ConfigError: If no file is named.
        SceneFormatError: For the first line that cannot be read, with its file and number.
    """
    if not paths:
        fix = "launch.py --run study-report votes-*.csv key=outputs/study/study-key.json"
        raise ConfigError(what="--run study-report was given no votes", expected="CSV files of votes", fix=fix)
    seen: dict[tuple[str, str, str], str] = {}
    votes: list[Vote] = []
    for path in paths:
        for place, row in _rows(path):
            vote = _vote(place, row, key)
            first = seen.setdefault((row["participant"], row["question"], row["asked"]), place)
            if first != place:
                raise _refused(place, f"{row['participant']} answered that in {first} already", "one answer of each")
            votes.append(vote)
    return votes


def _rows(path: str) -> Iterable[tuple[str, dict[str, str]]]:
    file = named(path)
    if not file.is_file():
        raise SceneFormatError(what=f"{path} does not exist", expected="a CSV file of votes", fix="check the path")
    content = file.read_bytes()
    try:
        if len(content) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES >> 20} MB")
        lines = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    except (ValueError, csv.Error) as error:
        raise _refused(path, f"is no CSV ({error})", "the file that the page wrote") from error
    if not lines or tuple(lines[0]) != COLUMNS:
        raise _refused(f"{path}:1", "has other columns", ",".join(COLUMNS))
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(COLUMNS):
            raise _refused(f"{path}:{number}", f"has {len(line)} values", f"{len(COLUMNS)}: {','.join(COLUMNS)}")
        yield f"{path}:{number}", dict(zip(COLUMNS, line, strict=True))


def _vote(place: str, row: Mapping[str, str], key: Mapping[str, Any]) -> Vote:
    if row["study"] != key["study"]:
        raise _refused(place, f"is of the study {row['study']}", f"votes of the study {key['study']}")
    is_judge = row["participant"].startswith(JUDGE)
    asked_of = {question["id"]: question for question in key["pairs" if is_judge else "questions"]}
    if row["question"] not in asked_of:
        raise _refused(place, f"names the question {row['question']}", f"one of {_some(asked_of)}")
    if row["asked"] not in ASKED:
        raise _refused(place, f"asks {row['asked']}", f"one of {_some(ASKED)}")
    options = asked_of[row["question"]]["options"]
    choices = [*options, TIE] if is_judge else list(options)
    if row["choice"] not in choices:
        raise _refused(place, f"chooses {row['choice']}", f"one of {_some(choices)}")
    if not row["participant"]:
        raise _refused(place, "names no participant", "whose vote it is")
    methods = {letter: option["method"] for letter, option in options.items()}
    return Vote(row["participant"], row["asked"], tuple(methods.values()), methods.get(row["choice"]))


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:3])}, ..., {names[-1]}"


def _refused(place: str, why: str, expected: str) -> SceneFormatError:
    return SceneFormatError(what=f"{place} {why}", expected=expected, fix="correct that line, or leave the file out")


def votes_text(rows: Iterable[Sequence[str]]) -> str:
    """Votes as a CSV file.

    Args:
        rows: Values of ``COLUMNS``.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return text.getvalue()
