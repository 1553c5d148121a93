"""When which views are edited anew, and how strongly."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Literal

from ..edits.strength import check_strength, strength_of_round
from ..errors import ConfigError
from ..named import build_named

AT_LEAST_0 = ("rates", "shape_rates", "lambda_opacity", "lambda_opaque")
"""Numbers of a round."""


@dataclass(frozen=True)
class Round:
    """One stretch of the run, at whose start the views are edited.

    Attributes:
        strength: How far the views go towards noise, in (0, 1], see ``Views``.
        steps: Its length in units of all rounds' together, > 0: the rounds fill the run, whatever its length.
        rates: Factor on the learning rates, >= 0.
        shape_rates: Another one, >= 0, on those of all but colours. Where the views do not agree on an outline, every
            step of all of them wears the object down a little.
        lambda_opacity: Weight of the mean opacity, >= 0: Gaussians that no view wants fade.
        lambda_opaque: Weight of the mean of 4 o (1 - o) over the new object's opacities o, >= 0: they go to 0 or 1.
        carve: What the new object is carved from at the start of the round: the edited ``views``, its own ``renders``
            before them, or ``none``: it goes on as it is.
        resize: Whether the object is first resized by half of what the editor gets wrong when it draws the old one.
        recenter: Whether the object is first moved back to where the old one stood.
        relight: Whether the edited views are put into the light of the source.
        tint: Whether the colours of the selection first go through the one affine map that explains the edited views
            best.
        max_strength: Where it is not 0, the strength of each edit is drawn evenly from ``strength`` up to this.
    """

    strength: float = 0.9
    steps: float = 100.0
    rates: float = 1.0
    shape_rates: float = 1.0
    lambda_opacity: float = 0.01
    lambda_opaque: float = 0.0
    carve: Literal["none", "views", "renders"] = "none"
    resize: bool = False
    recenter: bool = False
    relight: bool = False
    tint: bool = False
    max_strength: float = 0.0


def rounds_from(words: Sequence[Any]) -> list[Round]:
    """Rounds as a config lists them.

    Raises:
        ConfigError: If there are none, or one has an unknown key or a number out of range.
    """
    if not words:
        what, fix = "system.rounds is empty", "set system.rounds='[{strength: 0.9, steps: 1}]'"
        raise ConfigError(what=what, expected="at least one round", fix=fix)
    rounds = []
    for place, word in enumerate(words):
        key = f"system.rounds[{place}]"
        expected, fix = "{strength, steps} and, if wanted, lambda_opaque", f"write {key}={{strength: 0.9, steps: 100}}"
        if not isinstance(word, Mapping) or not {"strength", "steps"} <= {*word}:
            raise ConfigError(what=f"{key} is {word}", expected=expected, fix=fix)
        one = build_named({"name": "rounds", **word}, {"rounds": Round}, key=key, kind="list of", default="rounds")
        rules = {
            "strength": (0 < one.strength <= 1, "above 0, at most 1"), "steps": (one.steps > 0, "above 0"),
            **{name: (getattr(one, name) >= 0, "at least 0") for name in AT_LEAST_0},
        }  # fmt: skip
        for name, (is_right, wanted) in rules.items():
            if not is_right:
                raise ConfigError(what=f"{key}.{name} is {getattr(one, name)}", expected=wanted, fix=fix)
        rounds.append(one)
    return rounds


def at_strength(rounds: Sequence[Round], strength: float) -> list[Round]:
    """Rounds that edit views less or more strongly, see ``strength_of_round``; at 1 the rounds themselves.

    Raises:
        ConfigError: If the strength is out of range.
    """
    check_strength(strength)
    if strength == 1:
        return list(rounds)
    return [
        replace(
            each, strength=strength_of_round(each.strength, strength),
            max_strength=strength_of_round(each.max_strength, strength) if each.max_strength else 0.0,
        )
        for each in rounds
    ]  # fmt: skip


class Schedule:
    """Rounds laid out on the steps of a run.

    Args:
        rounds: At least one.
        num_steps: Length of the run, at least one step a round.
    """

    def __init__(self, rounds: Sequence[Round], num_steps: int) -> None:
        total = sum(each.steps for each in rounds)
        ends = [round(num_steps * end / total) for end in accumulate(each.steps for each in rounds)]
        self.rounds, self.starts, self.ends = list(rounds), [0, *ends[:-1]], ends

    def index(self, step: int) -> int:
        """Which round a step belongs to."""
        return bisect_right(self.starts, step) - 1

    def begins(self, step: int) -> bool:
        """Whether a round begins with this step."""
        return step in self.starts

    def share(self, step: int) -> float:
        """How far into its round a step is, in [0, 1)."""
        index = self.index(step)
        return (step - self.starts[index]) / max(1, self.ends[index] - self.starts[index])
