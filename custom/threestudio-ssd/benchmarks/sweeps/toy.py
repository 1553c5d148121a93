"""Sweeps on toy edits whose truth is known: each trial is a method of the benchmark, edited and judged."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig
from tqdm import tqdm

import threestudio
from threestudio.apps import Words
from threestudio.utils.base import Configurable

from ...errors import ConfigError
from ...files import write_image
from ..grids import labelled_grid
from ..toy.items import Method, load_experiment, made_with, run_item
from ..toy.run import ItemsConfig, checked_items, item_settings, run_items
from .job import Job
from .plan import Trial, as_text, grid_trials


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


def cell_trials(cfg: Any) -> list[Trial]:
    """The cells of the grid.

    Args:
        cfg: Keys of ``EditSweep``.

    Raises:
        ConfigError: If there are no axes, or more than a grid shows.
    """
    if not 1 <= len(cfg.axes) <= 2:
        raise ConfigError(
            what=f"system.axes has {len(cfg.axes)} axes", expected="one or two, each with values",
            fix="write axes: {system.guidance.score.enhance_weight: [0, 5.5]}",
        )  # fmt: skip
    return grid_trials(cfg.axes, cfg.labels)


def method_of(cfg: Any, trial: Trial) -> Method:
    """The method of a cell."""
    config, *shared = (str(word) for word in cfg.base)
    return Method(trial.name, config, (*shared, *trial.changes))


def cell_jobs(words: Words, experiment: DictConfig, trials: Sequence[Trial]) -> list[Job]:
    """A job for each cell: the same command for one cell alone, which edits and judges all its seeds."""
    cfg, settings = experiment.system, item_settings(experiment)
    items = checked_items([(cfg.kind, method_of(cfg, trial)) for trial in trials], experiment, settings)
    jobs = []
    for trial, (kind, method) in zip(trials, items, strict=True):
        settled = made_with(load_experiment(method, kind, settings), kind, settings)
        command = ("--run", "sweep", "--config", words.config, *words.overrides, f"run.only={trial.name}")
        jobs.append(Job(trial.name, settings.out / kind / method.name, command, settled))
    return jobs


def make_cell(experiment: DictConfig, name: str) -> None:
    """What the job of a cell does: edit and judge its items, seed by seed.

    Raises:
        ConfigError: If there is no such cell.
    """
    cfg, settings = experiment.system, item_settings(experiment)
    methods = {trial.name: method_of(cfg, trial) for trial in cell_trials(cfg)}
    if name not in methods:
        expected = f"one of: {', '.join(methods)}"
        raise ConfigError(what=f"the sweep has no cell {name}", expected=expected, fix="set run.only to one of them")
    ((kind, method),) = checked_items([(cfg.kind, methods[name])], experiment, settings)
    for seed in tqdm(range(experiment.data.num_seeds), desc="items"):
        run_item(method, kind, seed, settings)


def figures_of_cell(job: Job) -> Mapping[str, Any]:
    """Success over all edits and seeds that are judged."""
    files = sorted(job.folder.glob("seed-*.json"))
    rows = [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))["rows"]]
    return {"success": statistics.mean(row["success"] for row in rows)} if rows else {}


def write_cells(experiment: DictConfig, trials: Sequence[Trial]) -> list[Path]:
    """Write ``grid.png``, and the report of a benchmark whose methods are the cells; returns both."""
    experiment = experiment.copy()
    experiment.system.num_processes = 1  # everything is there
    cfg, out = experiment.system, Path(experiment.system.out)
    report = run_items([(cfg.kind, method_of(cfg, trial)) for trial in trials], experiment)
    folders = {tuple(as_text(value) for value in trial.values.values()): trial.name for trial in trials}
    axes = [str(cfg.labels.get(key, key)) for key in cfg.axes]
    write_image(out / "grid.png", labelled_grid(folders, out / cfg.kind, experiment.data.edits, axes))
    return [out / "grid.png", report]
