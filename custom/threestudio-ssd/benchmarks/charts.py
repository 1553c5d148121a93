"""Charts as SVG: a frame with ticks and titles, and points against one value."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

LEFT, RIGHT, TOP, BOTTOM = 60, 580, 40, 320
"""The frame, in units of the image, which is 640 by 370."""


def place_on(value: float, low: float, high: float, first: float, last: float) -> float:
    """Where a value of a scale from low to high stands between first and last; a scale of no length has one place."""
    return (first + last) / 2 if high == low else first + (last - first) * (value - low) / (high - low)


def chart_svg(
    body: str, x_ticks: Mapping[float, str], y_ticks: Mapping[float, str], x_title: str, y_title: str
) -> str:  # fmt: skip
    """A chart.

    Args:
        body: Marks, as SVG.
        x_ticks: Place -> text.
        y_ticks: The same, each with a line across.
        x_title: Below.
        y_title: On top.
    """
    ticks = "".join(
        f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{html.escape(text)}</text>'
        f'<path d="M{LEFT} {y:.1f}H{RIGHT}" stroke="#eee"/>'
        for y, text in y_ticks.items()
    ) + "".join(
        f'<text x="{x:.1f}" y="338" text-anchor="middle">{html.escape(text)}</text>' for x, text in x_ticks.items()
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 370" font-family="sans-serif" font-size="12">'
        '<rect width="640" height="370" fill="#fff"/>'
        f'{ticks}<path d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}" fill="none" stroke="#888"/>{body}'
        f'<text x="320" y="360" text-anchor="middle">{html.escape(x_title)}</text>'
        f'<text x="{LEFT}" y="26">{html.escape(y_title)}</text></svg>\n'
    )


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

    marks = "".join(
        f'<circle cx="{across(_as_key(setting)):.1f}" cy="{up(figure):.1f}" r="4" fill="#2060c0" fill-opacity=".7"/>'
        for setting, figure in points
    )
    longest = max(4, 90 // len(places))
    step = -(-len(places) // 12)
    x_ticks = {across(setting): _shortened(str(setting), longest) for setting in places[::step]}
    y_ticks = {up(figure): f"{figure:.3g}" for figure in (min(figures), max(figures))}
    return chart_svg(marks, x_ticks, y_ticks, x_title, y_title)


def _as_key(setting: Any) -> Any:
    return setting if isinstance(setting, int | float | str) else str(setting)


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
