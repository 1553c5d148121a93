"""What the votes of a study say: tables in Markdown and CSV, and a page."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import check_least
from ..files import markdown_table, write_text
from ..report.pages import write_page
from .keys import OutcomeConfig
from .make import ASKED
from .results import read_key
from .shares import Share, pairwise, shares
from .votes import Vote, read_votes

HEADS = ["method", "votes", "shown", "share", "95 % (Wilson)", "95 % (participants)"]
PAIR_HEADS = [
    "first",
    "second",
    "votes for the first",
    "ties",
    "votes",
    "share",
    "95 % (Wilson)",
    "95 % (participants)",
]
BOTH = "both"
QUESTIONS = {**ASKED, BOTH: "Both questions together"}
NOTE = (
    "Wilson's interval takes every vote for independent. The other one draws participants, each with all of their "
    "votes, and is the one to quote where several people voted more than once. A tie is half a vote for each."
)
Tables = dict[str, dict[str, tuple[list[Share], list[Share]]]]
"""Who voted -> what was asked -> shares, and shares of pairs."""


def write_outcome(cfg: Any) -> str:
    """Write ``report.md shares.csv report.html`` into ``cfg.out``.

    Args:
        cfg: Keys of ``OutcomeConfig``.

    Returns:
        The tables, and where the page is.

    Raises:
        InputError: If the key or a vote cannot be read.
    """
    check_least("run", cfg, OutcomeConfig(), {"resamples": 100})
    key = read_key(cfg.key)
    votes, out = read_votes(cfg.votes, key), Path(cfg.out)
    groups = {"People": [vote for vote in votes if not vote.is_of_judge]}
    for vote in votes:
        if vote.is_of_judge:
            groups.setdefault(vote.participant.replace(":", " "), []).append(vote)
    groups = {who: of_group for who, of_group in groups.items() if of_group}
    tables: Tables = {
        who: {asked: _of(_about(of_group, asked), cfg) for asked in QUESTIONS} for who, of_group in groups.items()
    }
    counts = {
        who: f"{len({vote.participant for vote in each})} voted {len(each)} times." for who, each in groups.items()
    }
    text = _markdown(key["title"], tables, counts)
    write_text(out / "report.md", text)
    write_text(out / "shares.csv", _csv(tables))
    sections = [{"title": who, "note": counts[who], "asked": _sections(tables[who])} for who in tables]
    write_page(out / "report.html", "shares.html", title=key["title"], note=NOTE, sections=sections)
    return f"{text}\n{out / 'report.html'}\n"


def _about(votes: Sequence[Vote], asked: str) -> list[Vote]:
    return [vote for vote in votes if asked in (BOTH, vote.asked)]


def _of(votes: Sequence[Vote], cfg: Any) -> tuple[list[Share], list[Share]]:
    return shares(votes, cfg.resamples, cfg.seed), pairwise(votes, cfg.resamples, cfg.seed)


def _markdown(title: str, tables: Tables, counts: Mapping[str, str]) -> str:
    lines = [f"# {title}", "", NOTE, ""]
    for who, of_group in tables.items():
        lines += [f"## {who}", "", counts[who], ""]
        for asked, (single, pairs) in of_group.items():
            if single:
                lines += [f"### {QUESTIONS[asked]}", "", markdown_table(HEADS, map(_row, single)), ""]
            if pairs:
                lines += [markdown_table(PAIR_HEADS, map(_pair_row, pairs)), ""]
    return "\n".join(lines)


def _sections(of_group: Mapping[str, tuple[list[Share], list[Share]]]) -> list[dict[str, Any]]:
    return [
        {
            "text": QUESTIONS[asked],
            "shares": [
                {
                    "method": each.method, "percent": round(100 * each.share, 1), "text": f"{each.share:.1%}",
                    "low": round(100 * _interval(each)[0], 1), "high": round(100 * _interval(each)[1], 1),
                }
                for each in single
            ],
            "table": {"heads": HEADS, "rows": [_row(each) for each in single]},
            "pairs": {"heads": PAIR_HEADS, "rows": [_pair_row(each) for each in pairs]},
        }
        for asked, (single, pairs) in of_group.items()
        if single
    ]  # fmt: skip


def _interval(share: Share) -> tuple[float, float]:
    return share.bootstrap or share.wilson


def _row(share: Share) -> list[str]:
    return [share.method, f"{share.votes:g}", str(share.asked), *_numbers(share)]


def _pair_row(share: Share) -> list[str]:
    return [share.method, str(share.against), f"{share.votes:g}", str(share.ties), str(share.asked), *_numbers(share)]


def _numbers(share: Share) -> list[str]:
    return [f"{share.share:.1%}", _range(share.wilson), _range(share.bootstrap)]


def _range(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.1%} to {interval[1]:.1%}"


def _csv(tables: Tables) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = ["voters", "asked", "method", "against", "votes", "ties", "shown", "share", "wilson_low", "wilson_high"]
    writer.writerow([*heads, "participants_low", "participants_high"])
    for who, of_group in tables.items():
        for asked, (single, pairs) in of_group.items():
            for each in [*single, *pairs]:
                numbers = [each.votes, each.ties, each.asked, each.share, *each.wilson, *(each.bootstrap or ("", ""))]
                writer.writerow([who, asked, each.method, each.against or "", *numbers])
    return text.getvalue()
