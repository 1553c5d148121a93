"""Results side by side: the same views of each, in one picture and on one page that needs nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from omegaconf import OmegaConf
from torch import Tensor

import threestudio

from ..data import ViewPlan
from ..data.keys import GSViewsConfig
from ..early import named
from ..errors import ConfigError
from ..files import write_image
from ..gaussians.io import load_gaussians
from ..host import parse_structured
from ..rendering import render_each
from ..report.pages import inline, write_page
from ..report.results import Result, find_result
from .grids import labelled_rows

CONFIG = Path("..", "configs", "parsed.yaml")
"""Where the config of a run lies, from its splat."""
FIGURES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "target_prompt": ("words", str),
    "strength": ("strength", lambda value: f"{value:g}"),
    "seed": ("seed", str),
    "steps": ("steps", lambda value: f"{value:,}"),
    "clip_directional_similarity": ("moved as the words say, -1 to 1", lambda value: f"{value:.2f}"),
    "change_inside": ("change of the selection, share of the range", lambda value: f"{value:.3f}"),
    "psnr_outside": ("kept elsewhere", lambda value: f"{value:.1f} dB"),
    "speckle_visible": ("speckle", lambda value: f"{value:.3f}"),
    "seconds": ("took", lambda value: f"{value:,.0f} s"),
}
"""Key of ``report.json`` -> what the page calls it, and how it writes it."""

Views = list[tuple[str, Float[Tensor, "_ _ 3"]]]


def views_of(first: Result, cameras: str, count: int, size: int) -> tuple[Any, Tensor]:
    """Held-out cameras, those of a run's own config where it is there, else an orbit; and what is behind the scene.

    Args:
        first: Whose config, and whose extent for an orbit.
        cameras: File or folder that is read in place of the config's; empty: none.
        count: How many.
        size: Shorter side, pixels.
    """
    file = first.beside(str(CONFIG))
    run: Any = OmegaConf.load(file) if file.is_file() else OmegaConf.create()
    keys = OmegaConf.to_container(run.data) if run.get("data_type") == "gs-views" else {}
    assert isinstance(keys, dict)
    if cameras:
        keys = {"cameras": cameras}
    elif keys.get("cameras") and not named(keys["cameras"]).exists():
        threestudio.info(f"{keys['cameras']}, the cameras of {first.label}, are not here: views are of an orbit.")
        keys = {}
    keys |= {
        "num_test_views": count,
        "test_size": size,
        "num_train_views": 1,
        "video_frames": 0,
        "check_capture": False,
    }
    plan = ViewPlan(parse_structured(GSViewsConfig, keys))
    background = list(run.system.get("background", [0.0] * 3)) if keys.get("batch_size") else [0.0] * 3
    scene = load_gaussians(first.splat)
    held_out = replace(plan.views(scene, size, 2).test, offset=scene.offset)
    return held_out, torch.tensor(background, dtype=torch.float32)


def views_by_name(result: Result, cameras: Any, background: Tensor) -> Views:
    """A result in each view, by the view's name."""
    scene = load_gaussians(result.splat)
    images = render_each(scene, cameras.counted_from(scene.offset), background)
    return list(zip(cameras.names, images, strict=True))


def compare(paths: Sequence[str], out: Path, *, cameras: str = "", count: int = 4, size: int = 256) -> Path:
    """Write ``compare.png`` and ``compare.html``: a row a view, a column a result, figures of reports below.

    Args:
        paths: Run folders or splats, at least one; the cameras are the first one's.
        out: Folder.
        cameras: Others to use in place of them.
        count: Views.
        size: Shorter side of each, pixels.

    Returns:
        The page.

    Raises:
        ConfigError: If nothing is given, or a number is out of range.
        SceneFormatError: For a result that cannot be read.
    """
    _check(paths, count, size)
    results = _labelled([find_result(path) for path in paths])
    where, background = views_of(results[0], cameras, count, size)
    columns = [views_by_name(result, where, background) for result in results]
    rows = list(zip(*columns, strict=True))
    labels = [result.label for result in results]
    sheet = [[(f"{label}: {name}", image) for label, (name, image) in zip(labels, row, strict=True)] for row in rows]
    write_image(out / "compare.png", labelled_rows(sheet))
    views = [(row[0][0], [_inline(image) for _, image in row]) for row in rows]
    write_page(
        out / "compare.html", "results.html", title="Comparison", labels=labels, views=views, figures=_figures(results)
    )
    return out / "compare.html"


def _check(paths: Sequence[str], count: int, size: int) -> None:
    if not paths:
        expected, fix = "run folders or splats", "launch.py --run compare outputs/ssd-gs/A outputs/ssd-gs/B"
        raise ConfigError(what="--run compare was given no results", expected=expected, fix=fix)
    for key, value, least, usual in (("views", count, 1, 4), ("size", size, 16, 256)):
        if value < least:
            raise ConfigError(what=f"{key} is {value}", expected=f"at least {least}", fix=f"set {key}={usual}")


def _labelled(results: Sequence[Result]) -> list[Result]:
    """The results under labels that tell them apart: with a number where two are called the same."""
    labels = [result.label for result in results]
    return [
        Result(f"{result.label} ({number})" if labels.count(result.label) > 1 else result.label, result.splat,
               result.report)
        for number, result in enumerate(results, 1)
    ]  # fmt: skip


def _figures(results: Sequence[Result]) -> list[tuple[str, list[str]]]:
    """What a figure is called, and its value of each result; of those that any report has."""
    return [
        (name, ["-" if each.report.get(key) is None else write(each.report[key]) for each in results])
        for key, (name, write) in FIGURES.items()
        if any(each.report.get(key) is not None for each in results)
    ]


def _inline(image: Float[Tensor, "h w 3"]) -> str:
    return inline((image.clamp(0, 1) * 255).round().byte().cpu().numpy())
