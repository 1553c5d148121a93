"""The toy benchmark: every score on edits whose truth is known, in pictures and in scenes."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numba
import torch
import torch.multiprocessing as mp
from omegaconf import DictConfig
from tqdm import tqdm

import threestudio
from threestudio.plugins import call_in_worker
from threestudio.utils.base import Configurable
from threestudio.utils.config import load_config
from threestudio.utils.folders import sole_use
from threestudio.utils.saving import remove_left_behind

from ...errors import ConfigError
from ...files import write_image
from ...toyworld.edits import EDITS
from ..grids import labelled_grid
from ..report import write_report
from .items import TRACED, ItemSettings, Kind, Method, methods_from, refuse_unmasked, refuse_unread, run_item

MIN_SECONDS = 2.0
"""Between two looks at how far the items are."""


@threestudio.register("toy-edits")
class ToyEditsData(Configurable):
    """The data of a benchmark or sweep: which toy edits, on which scenes."""

    @dataclass
    class Config:
        """Keys of the edits."""

        edits: list[str] = field(default_factory=lambda: list(EDITS))
        """Names of edits."""
        num_seeds: int = 3
        """Seeds of scene and noise, >= 1."""
        scene_seed: int = 3
        """The first seed's scene; decides size, yaw, sun and texture."""

    cfg: Config


@dataclass
class ItemsConfig:
    """Keys that every run of items shares: those of a benchmark, the cells of a sweep."""

    picture_steps: int = 150
    """Steps of a picture edit, unless a method's own changes say otherwise; 0 leaves the configs' own."""
    scene_steps: int = 400
    """Steps of a scene edit."""
    picture_config: str = "configs/ssd-image.yaml"
    """Says how latents move."""
    picture_overrides: list[str] = field(default_factory=list)
    """Changes to it."""
    shape_steps: int = 0
    """Steps of a change of shape; 0, as for the others, leaves the configs' own."""
    overrides: list[str] = field(default_factory=list)
    """Changes to every method (each cell of a sweep is one), before its own."""
    batch: int = 26
    """Edits side by side, >= 1; results do not depend on it beyond rounding."""
    use_masks: bool = False
    """Whether edits of the object are masked to it; preservation then says nothing about the score."""
    num_views: int = 24
    """Training views of a scene."""
    num_probes: int = 5
    """How often a run is looked at, for its steps to 90 %."""
    num_processes: int = 1
    """Single-threaded processes that share the items; 1: this process with all its threads."""


@threestudio.register("toy-benchmark")
class ToyBenchmark(Configurable):
    """Methods against toy edits; ``--run evaluate`` with a config of this system runs it, and goes on if stopped."""

    @dataclass
    class Config(ItemsConfig):
        """Keys of the benchmark."""

        picture_methods: dict = field(default_factory=dict)
        """Name -> [config, key=value, ...], edited as pictures; the config's guidance is what counts."""
        scene_methods: dict = field(default_factory=dict)
        """The same, edited as scenes; the config's learning rates count too, and it may be of any system that edits a
        scene by words."""
        shape_methods: dict = field(default_factory=dict)
        """The same, each run on a scene on disk with a mask traced from pictures: a scene edit or a refit."""
        view_methods: dict = field(default_factory=dict)
        """The same of refits: the views are edited for the first time, and looked at before anything is fitted."""
        out: str = "outputs/bench-edits"
        """Where items, pictures and the report go."""
        title: str = "Scores on toy edits with known truth"
        """Of the report."""

    cfg: Config


def run_benchmark(experiment: DictConfig) -> Path:
    """Run every item that has no result yet and write the report.

    Args:
        experiment: Complete config with ``data_type: toy-edits`` and ``system_type: toy-benchmark``.

    Returns:
        The report's path.
    """
    cfg, data = experiment.system, experiment.data
    methods: dict[Kind, DictConfig] = {
        "picture": cfg.picture_methods,
        "scene": cfg.scene_methods,
        "shape": cfg.shape_methods,
        "view": cfg.view_methods,
    }
    items: list[tuple[Kind, Method]] = []
    for kind, words in methods.items():
        for method in methods_from(words):
            items.append((kind, method))
    if not items or data.num_seeds < 1:
        raise ConfigError(
            what="the benchmark has no methods or no seeds",
            expected="system.picture_methods, scene_methods, shape_methods or view_methods, data.num_seeds >= 1",
            fix="start from configs/bench/toy.yaml",
        )  # fmt: skip
    return run_items(items, experiment)


def item_settings(experiment: DictConfig) -> ItemSettings:
    """What all items of a benchmark or sweep share."""
    from threestudio.utils.config_tree import complete

    cfg, data = experiment.system, experiment.data
    given = [*([f"steps={cfg.picture_steps}"] if cfg.picture_steps else []), *cfg.picture_overrides]
    return ItemSettings(
        out=Path(cfg.out), edits=tuple(data.edits), scene_seed=data.scene_seed,
        picture_experiment=complete(load_config(cfg.picture_config, cli_args=given)),
        num_steps={"picture": cfg.picture_steps, "scene": cfg.scene_steps, "shape": cfg.shape_steps, "view": 0},
        batch=cfg.batch, use_masks=cfg.use_masks, num_views=cfg.num_views, num_probes=cfg.num_probes,
    )  # fmt: skip


def checked_items(
    items: list[tuple[Kind, Method]], experiment: DictConfig, settings: ItemSettings
) -> list[tuple[Kind, Method]]:
    """The methods with the changes that all of them share.

    Raises:
        ConfigError: If one sets what its trials do not read, or needs a mask and has none.
    """
    shared = list(experiment.system.overrides)
    refuse_unread(items, shared, settings)
    items = [(kind, replace(method, overrides=(*shared, *method.overrides))) for kind, method in items]
    refuse_unmasked(items, settings)
    return items


def run_items(items: list[tuple[Kind, Method]], experiment: DictConfig) -> Path:
    """Every item seed by seed, so that a run that is stopped early has all methods, then the report.

    Args:
        items: What to edit with which method.
        experiment: The benchmark's or sweep's config.

    Returns:
        The report's path.
    """
    cfg, settings = experiment.system, item_settings(experiment)
    items = checked_items(items, experiment, settings)
    seeds = range(experiment.data.num_seeds)
    jobs: list[tuple[Kind, Method, int]] = [(kind, method, seed) for seed in seeds for kind, method in items]
    with (
        sole_use(settings.out),
        tqdm(total=len(jobs), desc="items", mininterval=MIN_SECONDS, smoothing=0) as bar,
    ):
        remove_left_behind(settings.out)
        if cfg.num_processes > 1:
            _work_side_by_side(jobs, settings, cfg.num_processes, bar)
        bar.reset()
        rows = []
        for kind, method, seed in jobs:
            rows += run_item(method, kind, seed, settings)
            bar.update()
    order = {(kind, method.name): place for place, (kind, method) in enumerate(items)}
    rows.sort(key=lambda row: (order[row["kind"], row["method"]], row["seed"]))
    kinds = {kind: settings.num_steps[kind] for kind in dict.fromkeys(kind for kind, _ in items)}
    lengths = [f"{count} steps in {'2D' if kind == 'picture' else '3D'}" for kind, count in kinds.items() if count]
    note = (
        f"{'; '.join([f'{len(settings.edits)} edits, {len(seeds)} seeds', *lengths])}; "
        f"{_masks_of(kinds, settings)}. "
        "Mean ± standard deviation over seeds. Embedded models: figures compare rows with each other, not with papers."
    )
    if views := {(method.name,): method.name for kind, method in items if kind == "view"}:
        write_image(settings.out / "views.png", labelled_grid(views, settings.out / "view", settings.edits, ["by"]))
    return write_report(settings.out, rows, cfg.title, note)


def _masks_of(kinds: Iterable[str], settings: ItemSettings) -> str:
    """What a report says of masks."""
    if TRACED.issuperset(kinds):
        return "masks traced from pictures"
    return "masked to the object" if settings.use_masks else "no masks"


def _work_side_by_side(jobs: list[tuple[Kind, Method, int]], settings: ItemSettings, count: int, bar: tqdm) -> None:
    """Share the jobs among new processes, show how many are done, and raise what one of them refuses."""
    context = mp.get_context("spawn")
    messages, next_job = context.SimpleQueue(), context.Value("i", 0)  # held here until the processes have them
    workers: Any = mp.spawn(call_in_worker, (_work, jobs, settings, next_job, messages), count, join=False)
    has_ended = False
    try:
        while not has_ended:
            has_ended = workers.join(timeout=MIN_SECONDS)
            while not messages.empty():
                refusal = messages.get()
                if refusal is not None:
                    raise refusal
                bar.update()
    finally:  # whoever stops this process means them as well
        for process in workers.processes:
            process.terminate()


def _work(
    rank: int, jobs: list[tuple[Kind, Method, int]], settings: ItemSettings, next_job: Any, messages: Any
) -> None:
    """One of several processes: takes the next job until there is none; tells None for each, or what it refuses."""
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    while True:
        with next_job.get_lock():
            place, next_job.value = next_job.value, next_job.value + 1
        if place >= len(jobs):
            return
        kind, method, seed = jobs[place]
        try:
            run_item(method, kind, seed, settings)
        except ValueError as error:
            if not hasattr(error, "what"):
                raise
            messages.put(error)
            return
        messages.put(None)
