"""Shares of votes, with intervals that say how far to trust them."""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from .votes import Vote

Z = 1.959963984540054
"""Standard deviations on either side of the mean that hold 95 % of a normal distribution."""


class Share(NamedTuple):
    """How often a method was chosen.

    Attributes:
        method: Which.
        votes: For it; a tie is half a vote for each of the two.
        asked: Votes in which it could have been chosen.
        wilson: 95 % interval, as if all votes were independent.
        bootstrap: 95 % interval over participants, whose votes are not; None for a single one.
        against: The other method of a pair; None: all that were shown.
        ties: Of a pair.
    """

    method: str
    votes: float
    asked: int
    wilson: tuple[float, float]
    bootstrap: tuple[float, float] | None
    against: str | None = None
    ties: int = 0

    @property
    def share(self) -> float:
        """Of the votes, in [0, 1]."""
        return self.votes / self.asked


def wilson(votes: float, asked: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share (Wilson 1927); ``votes`` may hold halves.

    Args:
        votes: For.
        asked: Of all, above 0.
    """
    share, spread = votes / asked, Z**2 / asked
    middle = (share + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * math.sqrt(share * (1 - share) / asked + spread / (4 * asked))
    return max(0.0, middle - half), min(1.0, middle + half)


def shares(votes: Sequence[Vote], resamples: int, seed: int) -> list[Share]:
    """Share of each method among the votes in which it was shown, most first."""
    methods = sorted({name for vote in votes for name in vote.options})
    shares = []
    for method in methods:
        credits = [(vote.participant, _credit(vote, method)) for vote in votes if method in vote.options]
        shares.append(_share(method, credits, resamples, seed))
    return sorted(shares, key=lambda each: -each.share)


def pairwise(votes: Sequence[Vote], resamples: int, seed: int) -> list[Share]:
    """Share of the first of each two methods among the votes that chose one of them, or neither of the two alone."""
    shares = []
    for first, second in combinations(sorted({name for vote in votes for name in vote.options}), 2):
        of_both = [vote for vote in votes if {first, second} <= set(vote.options)]
        ties = [vote for vote in of_both if vote.method is None]
        decided = [vote for vote in of_both if vote.method in (first, second)]
        credits = [(vote.participant, _credit(vote, first)) for vote in [*decided, *ties]]
        if credits:
            shares.append(_share(first, credits, resamples, seed)._replace(against=second, ties=len(ties)))
    return shares


def _credit(vote: Vote, method: str) -> float:
    return 1 / len(vote.options) if vote.method is None else float(vote.method == method)


def _share(method: str, credits: Sequence[tuple[str, float]], resamples: int, seed: int) -> Share:
    total = sum(credit for _, credit in credits)
    return Share(method, total, len(credits), wilson(total, len(credits)), _bootstrap(credits, resamples, seed))


def _bootstrap(credits: Sequence[tuple[str, float]], resamples: int, seed: int) -> tuple[float, float] | None:
    """Percentiles of the share over participants drawn with replacement, each with all of their votes."""
    people = sorted({name for name, _ in credits})
    if len(people) < 2:
        return None
    sums = np.zeros((len(people), 2))
    for name, credit in credits:
        sums[people.index(name)] += (credit, 1)
    draws = np.random.default_rng(seed).integers(len(people), size=(resamples, len(people)))
    totals = sums[draws].sum(axis=1)
    low, high = np.percentile(totals[:, 0] / totals[:, 1], (2.5, 97.5))
    return float(low), float(high)
