"""Curves of a run, drawn from the table that its logger wrote."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LEFT, RIGHT, TOP, BOTTOM = 52.0, 412.0, 10.0, 166.0
"""Where a curve is drawn in the picture of 420 x 190 of ``templates/curve.svg``."""
SMOOTHING = 15
"""The bold line is a mean over about so many parts of the run."""
MOST_POINTS = 600
CURVES = {
    "train/loss": ("Loss", "What the optimiser lowers: as it falls, renders come nearer to what they are fitted to."),
    "train/score": (
        "Size of the score",
        "Root mean square of what the model feeds back at a step; it depends on the timestep: no sign of progress.",
    ),
    "train/change": ("Change", "How far views are from the source's, in the model's latents; flat: it has settled."),
    "train/psnr": ("PSNR", "dB, of a step's renders to the images they are fitted to; more is nearer."),
    "train/gaussians": ("Gaussians", "How many there are."),
}  # fmt: skip
"""Column of the table -> what the curve is called, and what it means."""


@dataclass(frozen=True)
class Curve:
    """One curve, as ``templates/curve.svg`` draws it.

    Attributes:
        label: What it is called.
        meaning: One sentence.
        points: Of the thin line, in the picture.
        smooth: Of the bold line.
        ticks_x: Places along the picture and their steps.
        ticks_y: Places down the picture and their values.
    """

    label: str
    meaning: str
    points: str
    smooth: str
    ticks_x: list[tuple[float, str]]
    ticks_y: list[tuple[float, str]]


def curves_of(run: Path) -> list[Curve]:
    """The curves of a run folder's ``csv_logs``; none where nothing was logged, or a single step."""
    table = read_log(run)
    return [draw(*CURVES[name], table[name]) for name in CURVES if len(table.get(name, {})) > 1]


def read_log(run: Path) -> dict[str, dict[int, float]]:
    """Column -> step -> value, over all the runs that it took; what a later one logged of a step counts."""
    table: dict[str, dict[int, float]] = {}
    logs = sorted(run.glob("csv_logs/version_*/metrics.csv"), key=lambda path: int(path.parent.name[len("version_") :]))
    for log in logs:
        with log.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                for name, text in row.items():
                    if name in CURVES and text and math.isfinite(float(text)):
                        table.setdefault(name, {})[int(row["step"])] = float(text)
    return table


def draw(label: str, meaning: str, values: dict[int, float]) -> Curve:
    """A curve of values by step; at least two."""
    steps = sorted(values)
    ys = [values[step] for step in steps]
    low, high = min(ys), max(ys)
    margin = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
    low, high = low - margin, high + margin

    def across(step: float) -> float:
        return LEFT + (RIGHT - LEFT) * (step - steps[0]) / (steps[-1] - steps[0])

    def down(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (value - low) / (high - low)

    def line(values: Sequence[float]) -> str:
        thinned = range(0, len(steps), max(1, len(steps) // MOST_POINTS))
        return " ".join(f"{across(steps[i]):.1f},{down(values[i]):.1f}" for i in thinned)

    half = max(len(ys) // SMOOTHING // 2, 0)
    windows = [ys[max(0, i - half) : i + half + 1] for i in range(len(ys))]
    marks = sorted({steps[round((len(steps) - 1) * share / 4)] for share in range(5)})
    levels = [low + margin + (high - low - 2 * margin) * share / 3 for share in range(4)]
    return Curve(
        label, meaning, line(ys), line([sum(window) / len(window) for window in windows]),
        [(round(across(step), 1), f"{step:,}") for step in marks],
        [(round(down(level), 1), f"{level:.3g}") for level in levels],
    )  # fmt: skip
