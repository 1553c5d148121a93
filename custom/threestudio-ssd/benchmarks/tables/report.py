"""What a table of edits says: means by method, the paper's figures below, every edit, what was left out."""

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...files import markdown_table, write_json, write_text
from ...metrics.clip_model import TINY_LABEL
from ...metrics.clip_protocols import PAIRED_NOTE, RELEASED_SCRIPT_NOTE

COLUMNS = {
    "clip_similarity": ("CLIP Sim", 4),
    "clip_directional_similarity": ("CLIP Dir", 4),
    "clip_direction_consistency": ("consistency", 4),
    "psnr_to_before": ("PSNR to source", 2),
    "steps": ("steps", 0),
    "noise_predictions": ("predictions", 0),
    "seconds": ("seconds", 1),
}
"""Key of a row -> head and decimals."""
PAPER_NOTE = (
    "The paper's own figures, for the record. Its released script measures something else than its text says: "
    "docs/metrics.md. Compare methods within one table; protocol=ssd-released-script counts as that script does."
)


@dataclass(frozen=True)
class TableText:
    """What stands around the rows of a table.

    Attributes:
        title: Of the page.
        clip_model: The CLIP that measured.
        protocol: How.
        lacking: Scene that was left out -> why.
        published: Method -> its two figures in the paper.
    """

    title: str
    clip_model: str
    protocol: str
    lacking: Mapping[str, str]
    published: Mapping[str, tuple[float, float]]

    def write(self, out: Path, rows: Sequence[dict[str, Any]], num_jobs: int) -> str:
        """Write ``table.md``, ``table.csv`` and ``table.json``; returns the first.

        Args:
            out: Where to.
            rows: One for each edit and method, as far as they are.
            num_jobs: How many there will be.
        """
        text = self.markdown(rows, num_jobs)
        write_text(out / "table.md", text)
        write_text(out / "table.csv", as_csv(rows))
        write_json(out / "table.json", {"methods": means(rows), "rows": list(rows), "left_out": dict(self.lacking)})
        return text

    def markdown(self, rows: Sequence[dict[str, Any]], num_jobs: int) -> str:
        """The page."""
        is_tiny = self.clip_model == "tiny-clip"
        notes = [f"{len(rows)} of {num_jobs} edits.", f"CLIP: {TINY_LABEL if is_tiny else self.clip_model}."]
        note = PAIRED_NOTE if self.protocol == "paired-views" else RELEASED_SCRIPT_NOTE
        heads = [head for head, _ in COLUMNS.values()]
        by_method = [
            [method, row["edits"], *(_cell(row[key], decimals) for key, (_, decimals) in COLUMNS.items())]
            for method, row in means(rows).items()
        ]
        uneven = len({row["edits"] for row in means(rows).values()}) > 1
        if uneven:
            notes.append("Not every method has every edit: compare rows of the same number.")
        every = [
            [row["edit"], row["scene"], row["method"], row["captions_by"]]
            + [_cell(row.get(key), decimals) for key, (_, decimals) in COLUMNS.items()]
            for row in rows
        ]
        parts = [f"# {self.title}", " ".join([*notes, f"{note}."])]
        parts += [markdown_table(["method", "edits", *heads], by_method)]
        if self.published:
            paper = [[name, *(_cell(value, 4) for value in values)] for name, values in self.published.items()]
            parts += ["## In the paper", PAPER_NOTE, markdown_table(["method", "CLIP Sim", "CLIP Dir"], paper)]
        parts += ["## Every edit", markdown_table(["edit", "scene", "method", "captions by", *heads], every)]
        parts += ["Views of each are in `pictures/EDIT/METHOD.png`, those of the scene in `pictures/EDIT/source.png`."]
        if self.lacking:
            parts += ["## Left out", "\n".join(f"- {scene}: {reason}" for scene, reason in self.lacking.items())]
        return "\n\n".join(parts) + "\n"


def means(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Method -> number of edits that have figures, and the mean of each column over them."""
    table = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        counted = [row for row in rows if row["method"] == method and row["clip_similarity"] is not None]
        table[method] = {"edits": len(counted)} | {key: _mean(row.get(key) for row in counted) for key in COLUMNS}
    return table


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Every row; the columns of all of them."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _mean(values: Any) -> float | None:
    numbers = [value for value in values if value is not None]
    return statistics.mean(numbers) if numbers else None


def _cell(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"
