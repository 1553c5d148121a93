"""What a comparison of methods says: one table in Markdown, CSV and HTML with grids of images, and a Pareto plot."""

import csv
import io
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..files import markdown_table, write_text
from ..report.pages import write_page
from ..toyworld.edits import NULL
from .charts import BOTTOM, LEFT, RIGHT, TOP, Mark, chart_svg, place_on
from .grids import image_name

COLUMNS = {
    "success": ("success", 2, "share of held-out views that pass the judge: read as asked, and right beside the truth"),
    "shows_word": ("reads as asked", 2, "share of views in which an independent classifier reads the target attribute"),
    "shape_iou": ("shape IoU", 2, "overlap of the object's silhouette with the truth's; changes of shape only"),
    "boundary_f": ("outline F", 2, "F-score of the two outlines within 2 of 128 pixels; the same"),
    "view_difference": ("disagreement", 3, "colours that two edited views give one point, apart, 0 to 1; views only"),
    "true_difference": ("of the truth", 3, "the same of views of the truth: light, edges and pixels of finite size"),
    "kept": ("others kept", 2, "the same for the four other attributes"),
    "truth_psnr": ("PSNR to truth, inside", 1, "dB, what the edit is about against the true target"),
    "truth_ssim": ("SSIM", 2, "the same"),
    "truth_distance": ("distance", 3, "perceptual distance on tiny-clip to the true target, inside; not LPIPS"),
    "outside_psnr": ("PSNR outside", 1, "dB, what the edit should leave alone against the source"),
    "rest_psnr": ("PSNR of the rest", 1, "dB, what neither old nor new object covers against the source; shapes only"),
    "consistency": ("consistency", 2, "share of views that agree on the attribute; scenes only"),
    "saturation_drift": ("saturation", 2, "mean chroma minus the truth's, inside; above 0 too vivid"),
    "out_of_range": ("out of range", 2, "share of Gaussians whose colour is beyond [0, 1] by more than .02"),
    "speckle_visible": ("speckle", 3, "colour of a visible Gaussian against the mean of its 8 neighbours"),
    "speckle_hidden": ("hidden speckle", 3, "the same where training views hardly look"),
    "null_success": ("null edits kept", 2, "target = source: share of views that are as they were"),
    "null_psnr": ("null PSNR", 1, "dB, null edits against the source"),
    "steps_to_90": ("steps to 90 %", 0, "until the target's probability made 90 % of its way; moved ones only"),
    "noise_predictions": ("predictions", 0, "noise predictions an edit"),
    "seconds": ("seconds", 1, "an edit, in a batch of all; figures of one machine"),
}
"""Key -> head of the column, decimals, meaning."""
REASONS = {
    "success": COLUMNS["success"],
    "shows_word": COLUMNS["shows_word"],
    "blurred_psnr": ("blurred PSNR", 1, "dB of blurred views to the true target"),
    "arrived": ("arrived", 2, "share of the pixels to be changed that made half of their way; not of patterns"),
    "silhouette_iou": ("silhouette", 2, "overlap of the object's outline with the truth's; edits of the object only"),
    "outline_fault": ("outline fault", 2, "where the object's outline is most wrong, 0 to 1; new objects only"),
    "object_ssim": ("object SSIM", 2, "structural similarity of the object to the truth; not of patterns"),
    "mottle": ("mottle", 3, "speckles and blotches within the object, 0 to 1; not of patterns"),
    "pattern": ("pattern", 2, "share of the object where the pattern is; patterns only"),
    "color_distance": ("colour distance", 3, "of object, ground or sky to the truth's colours, the worst of them"),
    "strange": ("strange", 3, "share of the pixels off the object whose colour is nowhere in the truth"),
}
"""The same for what a success is made of."""
KIND_TITLES = {"picture": "Pictures (2D)", "scene": "Scenes (3D)", "shape": "Shapes (3D)", "view": "Edited views"}


def summarise(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str], dict[str, tuple[float, float] | None]]:
    """(kind, method) -> column -> mean and deviation over seeds of the mean over edits; in order of arrival."""
    groups: dict[tuple[str, str], dict[int, list[dict[str, Any]]]] = {}
    for row in rows:
        groups.setdefault((row["kind"], row["method"]), {}).setdefault(row["seed"], []).append(row)
    return {
        key: {name: _spread([_seed_mean(name, of_seed) for of_seed in seeds.values()]) for name in COLUMNS | REASONS}
        for key, seeds in groups.items()
    }


def _seed_mean(name: str, rows: Sequence[dict[str, Any]]) -> float | None:
    wants_null = name.startswith("null_")
    key = {"null_success": "success", "null_psnr": "outside_psnr"}.get(name, name)
    values = [row[key] for row in rows if (row["attribute"] == NULL) == wants_null and row.get(key) is not None]
    return statistics.mean(values) if values else None


def _spread(values: Sequence[float | None]) -> tuple[float, float] | None:
    numbers = [value for value in values if value is not None]
    return (statistics.mean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else 0.0) if numbers else None


def cell(value: tuple[float, float] | None, decimals: int) -> str:
    """Mean ± spread, or a dash."""
    return "-" if value is None else f"{value[0]:.{decimals}f} ± {value[1]:.{decimals}f}"


def markdown(rows: Sequence[dict[str, Any]], title: str, note: str) -> str:
    """The tables: methods against columns, success by attribute, what success is made of."""
    summary = summarise(rows)
    lines = [f"# {title}", "", note, ""]
    for kind in dict.fromkeys(kind for kind, _ in summary):
        tables = [markdown_table(*table) for table in _tables(rows, summary, kind)]
        lines += [f"## {KIND_TITLES.get(kind, kind)}", "", *(part for table in tables for part in (table, ""))]
    lines += [f"- *{head}*: {meaning}" for head, _, meaning in (COLUMNS | REASONS).values()]
    return "\n".join([*lines, ""])


class Table(NamedTuple):
    """A table of a report: its heads and its rows, all texts."""

    heads: list[str]
    rows: list[list[str]]


def _tables(rows: Sequence[dict[str, Any]], summary: dict, kind: str) -> list[Table]:
    return [_table(summary, kind), _by_attribute(rows, kind), _table(summary, kind, REASONS)]


def _table(summary: dict, kind: str, columns: dict[str, tuple[str, int, str]] = COLUMNS) -> Table:
    used = [name for name in columns if any(row[name] for (k, _), row in summary.items() if k == kind)]
    of_kind = {method: row for (k, method), row in summary.items() if k == kind}
    cells = [[method, *(cell(row[name], columns[name][1]) for name in used)] for method, row in of_kind.items()]
    return Table(["method", *(columns[name][0] for name in used)], cells)


def _by_attribute(rows: Sequence[dict[str, Any]], kind: str) -> Table:
    of_kind = [row for row in rows if row["kind"] == kind]
    attributes, methods = (list(dict.fromkeys(row[key] for row in of_kind)) for key in ("attribute", "method"))
    groups: dict[tuple[str, str], list[float]] = {}
    for row in of_kind:
        groups.setdefault((row["method"], row["attribute"]), []).append(row["success"])
    means = {key: f"{statistics.mean(values):.2f}" for key, values in groups.items()}
    cells = [[method, *(means.get((method, attribute), "-") for attribute in attributes)] for method in methods]
    return Table(["success by attribute", *attributes], cells)


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Every row of every edit and seed."""
    names = [name for name in rows[0] if name != "probabilities"] if rows else []
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def means_csv(rows: Sequence[dict[str, Any]]) -> str:
    """The tables: a row each kind and method, two columns each figure: mean and standard deviation over seeds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["kind", "method", *(f"{name}{part}" for name in COLUMNS | REASONS for part in ("", "_std"))])
    for key, row in summarise(rows).items():
        writer.writerow([*key, *(value for name in COLUMNS | REASONS for value in row[name] or ("", ""))])
    return text.getvalue()


def pareto_front(points: dict[str, tuple[float, float]]) -> list[str]:
    """Names no other point beats in both coordinates (higher is better), by the first coordinate."""
    best = [
        name
        for name, (x, y) in points.items()
        if not any(a >= x and b >= y and (a > x or b > y) for a, b in points.values())
    ]
    return sorted(best, key=lambda name: points[name])


def pareto_svg(rows: Sequence[dict[str, Any]], kind: str) -> str:
    """Success against preservation (PSNR outside) as an SVG image, the front as a line, spread over seeds as bars."""
    points = {
        method: (row["outside_psnr"], row["success"])
        for (of_kind, method), row in summarise(rows).items()
        if of_kind == kind and row["outside_psnr"] and row["success"]
    }
    if not points:
        return ""
    values = [x for (x, _), _ in points.values()]
    low, high = min(values) - 1, max(values) + 1

    def at(x: float, y: float) -> tuple[float, float]:
        return place_on(x, low, high, LEFT, RIGHT), place_on(y, 0, 1, BOTTOM, TOP)

    marks = []
    for method, ((x, dx), (y, dy)) in points.items():
        (px, py), (qx, qy) = at(x, y), at(x + dx, y + dy)
        w, h = qx - px, py - qy
        marks.append(Mark(px, py, method, f"M{px - w:.1f} {py:.1f}H{px + w:.1f}M{px:.1f} {py - h:.1f}V{py + h:.1f}"))
    means = {method: (x[0], y[0]) for method, (x, y) in points.items()}
    return chart_svg(
        marks,
        {at(x, 0)[0]: f"{x:.0f}" for x in (low + (high - low) * share / 4 for share in range(5))},
        {at(low, y)[1]: f"{y:.1f}" for y in (0, 0.2, 0.4, 0.6, 0.8, 1.0)},
        "PSNR outside the edit, dB: preservation", f"success, {KIND_TITLES.get(kind, kind)}",
        line=[at(*means[name]) for name in pareto_front(means)],
    )  # fmt: skip


def write_report(out: Path, rows: Sequence[dict[str, Any]], title: str, note: str) -> Path:
    """``report.md``, ``table.csv``, ``rows.csv``, ``report.html``, ``pareto-<kind>.svg``; returns the first."""
    text = markdown(rows, title, note)
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    plots = {kind: pareto_svg(rows, kind) for kind in kinds}
    for kind, plot in plots.items():
        if plot:
            write_text(out / f"pareto-{kind}.svg", plot)
    write_text(out / "report.md", text)
    write_text(out / "table.csv", means_csv(rows))
    write_text(out / "rows.csv", as_csv(rows))
    summary = summarise(rows)
    sections = [
        {
            "title": KIND_TITLES.get(kind, kind), "tables": _tables(rows, summary, kind),
            "plot": f"pareto-{kind}.svg" if plots[kind] else None, "grid": _image_grid(out, rows, kind),
        }
        for kind in kinds
    ]  # fmt: skip
    meanings = [(head, text) for head, _, text in (COLUMNS | REASONS).values()]
    write_page(out / "report.html", "comparison.html", title=title, note=note, sections=sections, meanings=meanings)
    return out / "report.md"


def _image_grid(out: Path, rows: Sequence[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Edits against source, methods and truth; paths of images of the first seed, None where there is none."""
    of_kind = [row for row in rows if row["kind"] == kind]
    seed = min(row["seed"] for row in of_kind)
    edits, methods = (list(dict.fromkeys(row[key] for row in of_kind)) for key in ("edit", "method"))
    folders = ["_source", *methods, "_truth"]
    paths = {edit: [f"{kind}/{folder}/{image_name(edit, seed)}" for folder in folders] for edit in edits}
    return {
        "heads": [name.strip("_") for name in folders],
        "rows": {edit: [path if (out / path).exists() else None for path in paths[edit]] for edit in edits},
    }
