"""Charts as SVG: a frame with ticks and titles, and points against one value."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..report.pages import fill

LEFT, RIGHT, TOP, BOTTOM = 60, 580, 40, 320
"""The frame, in units of the image, which is 640 by 370."""


def place_on(value: float, low: float, high: float, first: float, last: float) -> float:
    """Where a value of a scale from low to high stands between first and last; a scale of no length has one place."""
    return (first + last) / 2 if high == low else first + (last - first) * (value - low) / (high - low)


class Mark(NamedTuple):
    """A point of a chart.

    Attributes:
        x: Across, in units of the image.
        y: Down.
        name: Written beside it.
        bars: Error bars, as the path of an SVG.
    """

    x: float
    y: float
    name: str = ""
    bars: str = ""


def chart_svg(
    marks: Sequence[Mark], x_ticks: Mapping[float, str], y_ticks: Mapping[float, str], x_title: str, y_title: str,
    line: Sequence[tuple[float, float]] = (),
) -> str:  # fmt: skip
    """A chart.

    Args:
        marks: Its points.
        x_ticks: Place -> text.
        y_ticks: The same, each with a line across.
        x_title: Below.
        y_title: On top.
        line: Places that a line goes through.
    """
    rounded = [mark._replace(x=round(mark.x, 1), y=round(mark.y, 1)) for mark in marks]
    ticks = [[(round(place, 1), text) for place, text in each.items()] for each in (x_ticks, y_ticks)]
    return fill(
        "chart.svg", left=LEFT, right=RIGHT, top=TOP, bottom=BOTTOM, marks=rounded, x_ticks=ticks[0], y_ticks=ticks[1],
        x_title=x_title, y_title=y_title, line=" ".join(f"{x:.1f},{y:.1f}" for x, y in line),
    )  # fmt: skip


def points_svg(points: Sequence[tuple[Any, float]], x_title: str, y_title: str) -> str:
    """Values of a figure against a setting: on a scale where the setting is a number, else one place for each value.

    Args:
        points: Setting and figure, at least one.
        x_title: What the setting is called.
        y_title: What the figure is called.
    """
    settings = list(dict.fromkeys(_as_key(setting) for setting, _ in points))
    is_scale = all(type(setting) in (int, float) for setting in settings)
    places = sorted(settings) if is_scale else settings
    numbers = {setting: setting if is_scale else place for place, setting in enumerate(places)}
    figures = [figure for _, figure in points]

    def across(setting: Any) -> float:
        return place_on(numbers[setting], min(numbers.values()), max(numbers.values()), LEFT + 30, RIGHT - 30)

    def up(figure: float) -> float:
        return place_on(figure, min(figures), max(figures), BOTTOM - 20, TOP + 20)

    marks = [Mark(across(_as_key(setting)), up(figure)) for setting, figure in points]
    longest = max(4, 90 // len(places))
    step = -(-len(places) // 12)
    x_ticks = {across(setting): _shortened(str(setting), longest) for setting in places[::step]}
    y_ticks = {up(figure): f"{figure:.3g}" for figure in (min(figures), max(figures))}
    return chart_svg(marks, x_ticks, y_ticks, x_title, y_title)


def _as_key(setting: Any) -> Any:
    return setting if isinstance(setting, int | float | str) else str(setting)


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
