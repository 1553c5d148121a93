"""Sweeps: one config, a grid of values for some keys, toy edits with known truth; a labelled grid and a table."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig

import threestudio
from threestudio.utils.base import Configurable

from ..benchmarks.grids import grid_cells, labelled_grid
from ..benchmarks.toy.items import Method
from ..benchmarks.toy.run import ItemsConfig, run_items
from ..errors import ConfigError
from ..files import write_image


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
    cfg, out = experiment.system, Path(experiment.system.out)
    methods = sweep_methods(cfg)
    report = run_items([(cfg.kind, method) for method in methods.values()], experiment)
    folders = {values: method.name for values, method in methods.items()}
    axes = [str(cfg.labels.get(key, key)) for key in cfg.axes]
    write_image(out / "grid.png", labelled_grid(folders, out / cfg.kind, experiment.data.edits, axes))
    sys.stdout.write(f"{out / 'grid.png'}\n{report}\n")
    return 0


def sweep_methods(cfg: Any) -> dict[tuple[str, ...], Method]:
    """The method of each cell of the grid, by its values along the axes."""
    config, *shared = (str(word) for word in cfg.base)
    cells = grid_cells(cfg.axes, cfg.labels)
    return {values: Method(cell.name, config, (*shared, *cell.changes)) for values, cell in cells.items()}
