"""Sweeps: one config, a grid of values for some keys, toy edits with known truth; a labelled grid and a table."""

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from omegaconf import DictConfig
from PIL import Image

import threestudio
from threestudio.utils.base import Configurable

from ..errors import ConfigError
from .bench_edits import ItemsConfig, run_items
from .bench_items import Method, picture_name

CELL, HEAD = 96, 18
"""Height of a picture and of a line of text in the grid, pixels."""


@threestudio.register("edit-sweep")
class EditSweep(Configurable):
    """A grid of settings against toy edits; ``--run sweep --config configs/sweeps/X.yaml`` runs it."""

    @dataclass
    class Config(ItemsConfig):
        """Keys of the sweep."""

        base: list[str] = field(default_factory=lambda: ["configs/ssd-gs.yaml"])
        """Config, then key=value changes that all cells share."""
        axes: dict = field(default_factory=dict)
        """Key -> values, one axis each; a key ``a,b`` with values ``1,2`` sets several at once. At most two axes."""
        labels: dict = field(default_factory=dict)
        """Key of an axis -> what the grid calls it."""
        kind: Literal["picture", "scene"] = "picture"
        """What is edited."""
        out: str = "outputs/sweep"
        """Where cells, grid and table go."""
        title: str = "Sweep"
        """Of the table."""

    cfg: Config


@threestudio.register("app-sweep")
def run_sweep(experiment: DictConfig) -> int:
    """Run a sweep of configs/sweeps: every cell that has no result yet, then grid.png and report.md."""
    if experiment.system_type != "edit-sweep":
        raise ConfigError(
            what=f"--run sweep was given a config of {experiment.system_type}", expected="system_type: edit-sweep",
            fix="use one of configs/sweeps",
        )  # fmt: skip
    cfg, data = experiment.system, experiment.data
    cells = sweep_cells(cfg)
    items = [(cfg.kind, method) for method in cells.values()]
    report = run_items(items, experiment)
    folder = Path(cfg.out) / cfg.kind
    picture = sweep_grid(cells, folder, data.edits, [str(cfg.labels.get(key, key)) for key in cfg.axes])
    Image.fromarray(picture).save(Path(cfg.out) / "grid.png")
    sys.stdout.write(f"{Path(cfg.out) / 'grid.png'}\n{report}\n")
    return 0


def sweep_cells(cfg: Any) -> dict[tuple[str, ...], Method]:
    """The cells of the grid: values along the axes, as texts -> the method.

    Raises:
        ConfigError: If there are no axes, more than two, or one without values.
    """
    axes = {key: [str(value) for value in values] for key, values in cfg.axes.items()}
    if not 1 <= len(axes) <= 2 or not all(axes.values()):
        raise ConfigError(
            what=f"system.axes has {len(axes)} axes", expected="one or two, each with values",
            fix="write axes: {system.guidance.score.enhance_weight: [0, 5.5]}",
        )  # fmt: skip
    config, *shared = (str(word) for word in cfg.base)
    cells = {}
    for values in itertools.product(*axes.values()):
        own = [word for key, value in zip(axes, values, strict=True) for word in _assignments(key, value)]
        names = [str(cfg.labels.get(key, key.rpartition(".")[2])) for key in axes]
        name = " ".join(f"{label}={value}" for label, value in zip(names, values, strict=True))
        cells[values] = Method(name.replace("/", "-"), config, (*shared, *own))
    return cells


def _assignments(key: str, value: str) -> list[str]:
    """``a,b`` and ``1,2`` as ``a=1 b=2``."""
    keys = key.split(",")
    values = value.split(",") if len(keys) > 1 else [value]
    if len(keys) != len(values):
        raise ConfigError(
            what=f"system.axes: {key} has the value {value}", expected=f"{len(keys)} values, with commas between",
            fix="write one value for each key",
        )  # fmt: skip
    return [f"{name}={one}" for name, one in zip(keys, values, strict=True)]


def sweep_grid(
    cells: dict[tuple[str, ...], Method], folder: Path, edits: Sequence[str], axes: Sequence[str]
) -> np.ndarray:
    """Pictures of seed 0 with labels: one axis goes down, edits across; two go down and across, for the first edit."""
    if len(axes) > 1:
        down, across = (list(dict.fromkeys(values[place] for values in cells)) for place in (0, 1))
        lines = [[(kind, edits[0], kind.strip("_")) for kind in ("_source", "_truth")]] + [
            [(cells[row, column].name, edits[0], f"{axes[0]} {row}, {axes[1]} {column}") for column in across]
            for row in down
        ]
    else:
        rows = {"source": "_source", **{f"{axes[0]} {value}": cell.name for (value,), cell in cells.items()}}
        lines = [[(kind, edit, label) for edit in edits] for label, kind in (rows | {"truth": "_truth"}).items()]
    drawn = [
        np.concatenate(
            [_labelled(folder / kind / picture_name(edit, 0), f"{edit}: {label}") for kind, edit, label in line], axis=1
        )
        for line in lines
    ]
    width = max(line.shape[1] for line in drawn)
    padded = [np.pad(line, ((0, 0), (0, width - line.shape[1]), (0, 0)), constant_values=255) for line in drawn]
    return np.concatenate(padded)


def _labelled(path: Path, label: str) -> np.ndarray:
    """A picture with a line of text above it; white where there is none."""
    with Image.open(path) as opened:
        width = max(round(opened.width * CELL / opened.height), 8 * len(label))
        picture = np.asarray(opened.convert("RGB").resize((round(opened.width * CELL / opened.height), CELL)))
    head = np.full((HEAD, width + 4, 3), 255, np.uint8)
    cv2.putText(head, label, (2, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    body = np.full((CELL + 4, width + 4, 3), 255, np.uint8)
    body[:CELL, : picture.shape[1]] = picture
    return np.concatenate([head, body])
