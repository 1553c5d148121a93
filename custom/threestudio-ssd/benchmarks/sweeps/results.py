"""What a sweep leaves for people: a table, a contact sheet, a chart for each figure and setting, a page."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from threestudio.utils.config import file_name

from ...files import write_image, write_text
from ...report.pages import write_page
from ..charts import points_svg
from ..grids import labelled_rows
from ..report import Table
from .job import Job, State, state_of
from .live import as_cell
from .plan import Trial, as_text

GRID_ROWS = {"ssd-image-system": 1, "editor-image-system": 1, "gs-delete-system": 3}
"""Rows of save/grid.png, by system; 2 of all others: before on top, after at the bottom."""
STRIP = 128
"""Height of a trial's strip of views on the contact sheet, pixels."""
Results = list[tuple[Trial, Job, State, Mapping[str, Any]]]
"""Trial, job, how far it is, and its figures."""


def figures_of(report: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, Any]:
    """The figures of a report that a table shows: the metrics that it has."""
    return {name: report[name] for name in metrics if report.get(name) is not None}


def write_results(
    out: Path, trials: Sequence[Trial], jobs: Sequence[Job], figures: Callable[[Job], Mapping[str, Any]], title: str
) -> Path:
    """Write ``results.csv``, ``sheet.png``, ``plot-<figure>-<setting>.svg`` and ``report.html``; returns the last.

    Args:
        out: Folder of the sweep.
        trials: In the order of the table.
        jobs: Of the trials.
        figures: Reads the figures of a trial.
        title: Of the page.
    """
    results = [(trial, job, state_of(job), figures(job)) for trial, job in zip(trials, jobs, strict=True)]
    write_text(out / "results.csv", as_csv(results))
    rows = list(_strips(results))
    if rows:
        write_image(out / "sheet.png", labelled_rows(rows, STRIP))
    charts = dict(_charts(results))
    for name, svg in charts.items():
        write_text(out / name, svg)
    count = sum(state.status == "done" for _, _, state, _ in results)
    write_page(
        out / "report.html", "sweep.html", title=title, note=f"{count} of {len(results)} trials have a result.",
        table=_table(results), images=[*(["sheet.png"] if rows else []), *charts],
    )  # fmt: skip
    return out / "report.html"


def as_csv(results: Results) -> str:
    """Every trial: what it sets, how far it is, its figures, where it is."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    settings, figures = _heads(results)
    writer.writerow(["trial", *settings, "status", "seconds", *figures, "error", "folder"])
    for trial, job, state, row in results:
        values = [as_text(trial.values[name]) if name in trial.values else "" for name in settings]
        numbers = [row.get(name, "") for name in figures]
        writer.writerow([trial.name, *values, state.status, round(state.seconds, 1), *numbers, state.error, job.folder])
    return text.getvalue()


def _heads(results: Results) -> tuple[list[str], list[str]]:
    """What varies, and which figures there are."""
    settings = dict.fromkeys(name for trial, *_ in results for name in trial.values)
    return list(settings), list(dict.fromkeys(name for *_, row in results for name in row))


def _table(results: Results) -> Table:
    settings, figures = _heads(results)
    heads, has_errors = [*settings, "status", "seconds", *figures], any(state.error for _, _, state, _ in results)
    rows = [
        [
            *(as_text(trial.values.get(name, "")) for name in settings), state.status, f"{state.seconds:.0f}",
            *(as_cell(row.get(name)) for name in figures), *([state.error] if has_errors else []),
        ]
        for trial, _, state, row in results
    ]  # fmt: skip
    return Table([*heads, "error"] if has_errors else heads, rows)


def _strips(results: Results) -> Iterator[list[tuple[str, torch.Tensor]]]:
    """One labelled row for each trial that has pictures; before it what it started from, where that is another."""
    shown_before = None
    for trial, job, state, _ in results:
        file = job.folder / "save" / "grid.png"
        if not file.is_file():
            yield [(f"{trial.name}: {state.status}", torch.ones(STRIP, STRIP, 3))]
            continue
        pixels = np.asarray(Image.open(file).convert("RGB"))
        count = GRID_ROWS.get(job.system, 2)
        height = pixels.shape[0] // count
        before, after = pixels[:height], pixels[(count - 1) * height :]
        if count > 1 and (shown_before is None or not np.array_equal(before, shown_before)):
            shown_before = before
            yield [("before", _as_image(before))]
        yield [(trial.name, _as_image(after))]


def _as_image(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).float() / 255


def _charts(results: Results) -> Iterator[tuple[str, str]]:
    """Each figure against each setting that has more than one value: file and SVG."""
    settings, figures = _heads(results)
    for name in settings:
        for figure in figures:
            points = [
                (trial.values[name], row[figure])
                for trial, _, _, row in results
                if name in trial.values and isinstance(row.get(figure), int | float)
            ]
            if len({as_text(value) for value, _ in points}) > 1:
                yield f"plot-{file_name(figure)}-{file_name(name)}.svg", points_svg(points, name, figure)
