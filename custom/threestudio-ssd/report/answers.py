"""The questions that everybody has of a result, answered in words by the figures of its report."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

Tone = Literal["good", "fair", "bad"]
VISIBLE_CHANGE = 1.0 / 255
"""Mean change over the pixels that show the selection below which an edit counts as none."""
HALF_DONE = 0.5
"""Share of the pixels that show the selection, below which an edit left it half done where it changed less."""
KEPT, MOSTLY_KEPT = 40.0, 30.0
"""PSNR outside, dB, from which the rest counts as kept, and as kept but for a little: errors of 1 % and 3 %."""
HARDLY = 0.05
"""Directional CLIP similarity below which an edit hardly moved towards its prompt."""
ALL_DONE = 0.9
"""Share of the pixels that show the selection, from which no part of it counts as left out."""
SHARP, RECOGNISABLE = 25.0, 20.0
"""PSNR of a fit to photographs, dB, from which it counts as close, and as rough."""
HEADLINES: dict[Tone, str] = {
    "good": "The figures find nothing wrong with this result.",
    "fair": "Look twice at this result: something is only half right, or was warned of.",
    "bad": "Something is wrong with this result; look at what is red.",
}


class Answer(NamedTuple):
    """One question and what the figures say to it.

    Attributes:
        question: In words.
        tone: Whether that is as it should be.
        answer: A word or two.
        measured: The figure behind it, with its unit.
    """

    question: str
    tone: Tone
    answer: str
    measured: str


def answers_of(report: Mapping[str, Any]) -> list[Answer]:
    """Answers to the questions for which a report has figures."""
    questions = {"changed_visibly": _changed, "psnr_outside": _leaked, "clip_directional_similarity": _moved}
    questions |= {"changed_share": _untouched, "psnr": _close}
    answers = [ask(report) for key, ask in questions.items() if key in report]
    return [answer for answer in answers if answer is not None]


def tone_of(answers: Sequence[Answer], remarks: Sequence[str]) -> Tone:
    """The worst of all answers; a verdict or a warning of the run makes it fair at best."""
    tones = {answer.tone for answer in answers}
    if "bad" in tones:
        return "bad"
    return "fair" if remarks or "fair" in tones else "good"


def _changed(report: Mapping[str, Any]) -> Answer:
    question, change = "Did it change?", report["change_inside"]
    if change is None:
        return Answer(question, "bad", "Not seen", "None of the views shows the selection.")
    measured = f"The selection's pixels changed by {change * 255:.1f} of 255 levels on average."
    if not report["changed_visibly"]:
        return Answer(question, "bad", "No", f"{measured} Up to {VISIBLE_CHANGE * 255:.0f} counts as none.")
    return Answer(question, "good", "Yes", measured)


def _leaked(report: Mapping[str, Any]) -> Answer | None:
    psnr = report["psnr_outside"]
    if psnr is None:
        return None
    tone, answer = _graded(psnr, (KEPT, "No"), (MOSTLY_KEPT, "A little"), "Yes")
    return Answer(
        "Did it leak?", tone, answer, f"{psnr:.1f} dB PSNR outside the selection; from {KEPT:.0f} on it is kept."
    )


def _moved(report: Mapping[str, Any]) -> Answer:
    value = report["clip_directional_similarity"]
    tone, answer = _graded(value, (HARDLY, "Yes"), (0.0, "Hardly"), "No, away from it")
    return Answer(
        "Did it move towards the words?", tone, answer, f"Directional CLIP similarity {value:+.3f}, from -1 to 1."
    )


def _untouched(report: Mapping[str, Any]) -> Answer | None:
    share = report["changed_share"]
    if share is None:
        return None
    tone, answer = _graded(share, (ALL_DONE, "No"), (HALF_DONE, "A part of it"), "Most of it")
    measured = f"{share:.0%} of the pixels that show the selection changed visibly."
    return Answer("Is a part of the selection untouched?", tone, answer, measured)


def _close(report: Mapping[str, Any]) -> Answer:
    tone, answer = _graded(report["psnr"], (SHARP, "Close"), (RECOGNISABLE, "Rough"), "Far off")
    of_what = "photographs that it was not fitted to" if report["held_out"] else "the photographs that it was fitted to"
    return Answer("How close is it to the photographs?", tone, answer, f"{report['psnr']:.1f} dB PSNR on {of_what}.")


def _graded(value: float, good: tuple[float, str], fair: tuple[float, str], bad: str) -> tuple[Tone, str]:
    """Tone and word of a value of which more is better."""
    if value >= good[0]:
        return "good", good[1]
    return ("fair", fair[1]) if value >= fair[0] else ("bad", bad)
