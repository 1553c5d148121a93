"""``report.html`` of a run: its verdict in words, its pictures, figures and cost, in one file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..images import pixels_of
from ..masks import tinted
from .answers import HEADLINES, answers_of, tone_of
from .curves import curves_of
from .figures import costs_of, figures_of, others_of, size
from .pages import data_uri, inline, write_page

MOST_VIEWS, MOST_MASKS, MOST_PROGRESS = 12, 4, 5
"""Pictures in a page; of more, so many are shown, evenly spread."""
LARGEST_VIDEO = 3e6
"""Bytes of a video that goes into the page; a larger one stays beside it."""
VIDEO = "before_after.mp4"


class View(NamedTuple):
    """One view of a page.

    Attributes:
        name: Of the view.
        before: In [0, 1].
        after: The same view of the result.
        selected: (h w) how much of each pixel of ``before`` the selection makes up; None: nothing to show.
    """

    name: str
    before: Float[Tensor, "h w 3"]
    after: Float[Tensor, "h w 3"]
    selected: Float[Tensor, "h w"] | None = None


def views_of(names: Sequence[str], before: Any, after: Any, selected: Any = None) -> list[View]:
    """Views of images and of shares of the selection, each one a view."""
    shares = [None] * len(names) if selected is None else selected
    return [View(*view) for view in zip(names, before, after, shares, strict=True)]


def save_page(
    save: Path,
    words: tuple[str | None, str],
    views: Sequence[View],
    pair_names: tuple[str, str] = ("before", "after"),
) -> None:
    """Write ``report.html`` of what a run left: ``report.json``, the video, pictures of the progress, its log.

    Args:
        save: The folder of results in the run's folder.
        words: What the result was made from, if there is a word for it, and what it is.
        views: What the sliders show.
        pair_names: What their two sides are called.
    """
    report = json.loads((save / "report.json").read_text(encoding="utf-8"))
    verdicts, warnings = report.get("verdicts", []), report.get("warnings", [])
    answers = answers_of(report)
    tone = tone_of(answers, [*verdicts, *warnings])
    write_page(
        save / "report.html", "run.html", title=" → ".join(filter(None, words)), before=words[0], after=words[1],
        kicker=f"threestudio-ssd, {report.get('scene') or report.get('picture') or save.parent.name}",
        tone=tone, headline=HEADLINES[tone], verdicts=verdicts, warnings=warnings, answers=answers,
        views=[_sources(view) for view in _spread(views, MOST_VIEWS)], masks=_masks(views), video=_video(save / VIDEO),
        progress=[_progress(path) for path in _spread(sorted(save.glob("progress/step-*.png")), MOST_PROGRESS)],
        curves=curves_of(save.parent), figures=figures_of(report), costs=costs_of(report), others=others_of(report),
        command=report["command"], pair_names=pair_names,
    )  # fmt: skip


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """All items, or so many from first to last."""
    count = min(most, len(items))
    return [items[place] for place in torch.linspace(0, len(items) - 1, count).round().int().tolist()]


def _sources(view: View) -> dict[str, str]:
    return {"name": view.name, "before": inline(pixels_of(view.before)), "after": inline(pixels_of(view.after))}


def _masks(views: Sequence[View]) -> list[tuple[str, str]]:
    masked = [(view.name, view.before, view.selected) for view in views if view.selected is not None]
    return [
        (name, inline(pixels_of(tinted(before, selected.to(before)))))
        for name, before, selected in _spread(masked, MOST_MASKS)
    ]


def _progress(path: Path) -> tuple[str, str]:
    with Image.open(path) as image:
        return f"after {int(path.stem.removeprefix('step-')):,} steps", inline(image)


def _video(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    content = path.read_bytes()
    is_inline = len(content) < LARGEST_VIDEO
    source = data_uri("video/mp4", content) if is_inline else path.name
    return {"source": source, "name": path.name, "size": size(len(content)), "is_inline": is_inline}
