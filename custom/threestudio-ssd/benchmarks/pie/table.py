"""The paper's table of 2D edits whole: PIE-Bench by every method, resumable image by image, one table of all."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from PIL import Image

import threestudio
from threestudio.utils.base import Configurable
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio.utils.folders import sole_use
from threestudio.utils.saving import remove_left_behind

from ...errors import ConfigError
from ...files import is_whole, markdown_table, whole_file, write_json, write_text
from ...images import as_tensor, read_rgb, resized
from ...report.edit_report import model_of
from ..fingerprint import refuse_unread
from ..grids import labelled_rows
from ..tables.keys import chosen
from ..toy.items import Method, methods_from
from .dataset import GROUPS, IMAGES, SIZE, TRUTHS, PieEntry, load_pie_bench
from .metrics import COLUMNS, Judges, column_heads, columns_of, load_judges, means_of
from .run import (
    COSTS,
    READS,
    SUPPLIED,
    check_batch,
    chosen_entries,
    counting,
    edit_all,
    judge_names,
    keep_settings,
    measure,
    read_rows,
    result_path,
)

TABLE_OF_PAPER = tuple(COLUMNS)[:4]
"""The figures of the paper's table, in its order."""
SHEET_HEIGHT = 96
"""Of a picture in the sheets, pixels."""
PAPER_NOTE = (
    "The paper's own figures, for the record: other pictures, other models, other judges. What compares is the order."
)


@threestudio.register("pie-bench-data")
class PieBenchData(Configurable):
    """The data of a table of 2D edits: a folder of PIE-Bench."""

    @dataclass
    class Config:
        """Keys of the images."""

        dataset: str = "outputs/toy-pie-bench"
        """Folder with mapping_file.json and annotation_images/; and truth_images/, where the results are known."""
        groups: list[int] = field(default_factory=lambda: list(range(10)))
        """Which of the groups 0 to 9."""
        limit: int = 0
        """So many images of each group at most; 0: all."""

    cfg: Config


@threestudio.register("picture-table")
class PictureTable(Configurable):
    """A table of 2D edits; ``--run reproduce-table2`` runs it, and goes on if stopped."""

    @dataclass
    class Config:
        """Keys of the table."""

        methods: dict = field(default_factory=dict)
        """Name -> [config, key=value, ...] of a picture."""
        chosen: list[str] = field(default_factory=list)
        """Which of the methods are run; none given: all."""
        overrides: list[str] = field(default_factory=list)
        """Changes to every method, before its own."""
        batch: int = 1
        """Images edited side by side, >= 1: quicker, and equal up to rounding."""
        as_published: bool = False
        """true: the figures as the published script counts them; false: exact."""
        clip_model: str = "auto"
        """auto: ViT-L/14 as published, but tiny-clip where every model is an embedded one."""
        structure_model: str = "auto"
        """auto: facebook/dino-vitb8 as published, but tiny-clip likewise."""
        lpips_net: str = "auto"
        """auto: squeeze as published, but tiny, a distance on tiny-clip, likewise."""
        published: dict = field(default_factory=dict)
        """Method -> its four figures in the paper, printed below the table."""
        title: str = "Edits of pictures"
        """Of the table."""

    cfg: Config


@dataclass(frozen=True)
class PictureRun:
    """What all methods of a table share.

    Attributes:
        cfg: Keys of ``PictureTable``.
        dataset: Folder of the benchmark.
        entries: What is edited.
        out: Where results go, a folder for each method.
        judges: The networks behind the figures.
    """

    cfg: DictConfig
    dataset: Path
    entries: Sequence[PieEntry]
    out: Path
    judges: Judges

    def edit(self, name: str, experiment: DictConfig) -> None:
        """Edit what a method has not edited yet.

        Raises:
            ConfigError: If its folder holds images of other settings.
        """
        folder = self.out / name
        remove_left_behind(folder)
        keep_settings(folder / "settings.json", experiment, self.dataset)
        images = folder / IMAGES
        missing = [entry for entry in self.entries if not is_whole(result_path(images, entry))]
        if missing:
            threestudio.info(f"{name}: {len(missing)} of {len(self.entries)} images")
            edit_all(missing, self.dataset, images, experiment, self.cfg.batch)

    def rows(self, name: str, images: Path | None = None) -> list[dict[str, Any]]:
        """The figures of a method's images that are there.

        Args:
            name: Of the method.
            images: Where they are, if not in the method's folder.
        """
        images = images or self.out / name / IMAGES
        there = [entry for entry in self.entries if is_whole(result_path(images, entry))]
        return measure(there, self.dataset, images, self.out / name, self.judges, self.cfg.as_published)

    def seconds(self, name: str) -> float | None:
        """Mean CPU seconds that an image cost to edit."""
        costs = [row["cpu_seconds"] for row in read_rows(self.out / name / COSTS)]
        return statistics.mean(costs) if costs else None

    def write(self, names: Sequence[str]) -> str:
        """Write ``table.md`` and ``table.json`` of the methods that have images; returns the first.

        Means are over the images that all of these have, so that rows compare while the table is being made.
        """
        bounds = {"no edit": self.dataset / IMAGES}
        if (self.dataset / TRUTHS).is_dir():
            bounds["the truth"] = self.dataset / TRUTHS
        by_method = {name: self.rows(f"_{name}".replace(" ", "-"), place) for name, place in bounds.items()}
        by_method |= {name: self.rows(name) for name in names}
        by_method = {name: rows for name, rows in by_method.items() if rows}
        common = set.intersection(*({row["key"] for row in rows} for rows in by_method.values()))
        by_method = {name: [row for row in rows if row["key"] in common] for name, rows in by_method.items()}
        text = self._markdown(by_method, [name for name in names if name in by_method])
        write_text(self.out / "table.md", text)
        write_json(self.out / "table.json", by_method)
        return text

    def _markdown(self, by_method: Mapping[str, Sequence[Mapping[str, Any]]], names: Sequence[str]) -> str:
        columns = columns_of([row for rows in by_method.values() for row in rows])
        heads = column_heads(columns, self.judges.heads)
        lines = [[name, *means_of(rows, columns), _seconds(self.seconds(name))] for name, rows in by_method.items()]
        common = len(next(iter(by_method.values())))
        note = f"{common} of {len(self.entries)} images: those that every method has."
        note = f"{note} {counting(self.cfg.as_published)}. {self.judges.label}."
        parts = [f"# {self.cfg.title}", note, markdown_table(["method", *heads, "CPU s an image"], lines)]
        if "truth_inside" in columns:
            groups = sorted({entry.group for entry in self.entries})
            by_group = [
                [name, *(means_of(_of_group(by_method[name], group), ["truth_inside"])[0] for group in groups)]
                for name in by_method
            ]
            parts += ["## PSNR to truth, inside, by group"]
            parts += [markdown_table(["method", *(GROUPS[group] for group in groups)], by_group)]
        if self.cfg.published:
            paper = [[name, *map(str, values)] for name, values in self.cfg.published.items()]
            heads = column_heads({name: COLUMNS[name] for name in TABLE_OF_PAPER}, {})
            parts += ["## In the paper", PAPER_NOTE, markdown_table(["method", *heads], paper)]
        return "\n\n".join(parts) + "\n"

    def draw(self, names: Sequence[str]) -> None:
        """Write sheets: an image a row, with the source, every method, and the truth where there is one.

        ``sheet.png`` has the first image of each group, ``sheet-GROUP.png`` all of one.
        """
        groups: dict[int, list[PieEntry]] = {}
        for entry in self.entries:
            groups.setdefault(entry.group, []).append(entry)
        sheets = {"sheet.png": [members[0] for members in groups.values()]}
        sheets |= {f"sheet-{group}.png": members for group, members in groups.items()}
        for file, members in sheets.items():
            rows = [self._drawn(entry, names) for entry in members]
            with whole_file(self.out / file) as beside:
                Image.fromarray(labelled_rows(rows, SHEET_HEIGHT)).save(beside, format="png")

    def _drawn(self, entry: PieEntry, names: Sequence[str]) -> list[tuple[str, Any]]:
        places = {"source": self.dataset / IMAGES, **{name: self.out / name / IMAGES for name in names}}
        if (self.dataset / TRUTHS).is_dir():
            places["truth"] = self.dataset / TRUTHS
        files = {name: result_path(place, entry) for name, place in places.items()}
        return [
            (name, resized(as_tensor(read_rgb(file, "a")), (SIZE, SIZE))[0].permute(1, 2, 0))
            for name, file in files.items()
            if file.is_file()
        ]


def run_picture_table(out: Path, experiment: DictConfig) -> str:
    """Make what is missing of a table.

    Args:
        out: Where everything goes.
        experiment: Complete config with ``data_type: pie-bench-data`` and ``system_type: picture-table``.

    Returns:
        The table and its path, for printing.

    Raises:
        ConfigError: For a config of another kind, a method whose config sets a key that the benchmark does not read,
            or anything that a config or a model lacks; before any work.
    """
    if experiment.system_type != "picture-table":
        raise ConfigError(
            what=f"the config is one of {experiment.system_type}", expected="system_type: picture-table",
            fix="use configs/tables/table2.yaml",
        )  # fmt: skip
    cfg, data = experiment.system, experiment.data
    check_batch(cfg.batch, "system.batch")
    _check_published(cfg)
    names = chosen("system.chosen", cfg.chosen, [str(name) for name in cfg.methods])
    methods = methods_from({name: cfg.methods[name] for name in names})
    experiments = {method.name: experiment_of(method, cfg.overrides) for method in methods}
    entries = chosen_entries(load_pie_bench(data.dataset), data.groups, data.limit, "data.")
    models = [model_of(each.system) for each in experiments.values()]
    judges = [judge_names(cfg, model) for model in models]
    real = next((each for each in judges if "tiny" not in each["lpips_net"]), judges[0])
    with sole_use(out):
        run = PictureRun(cfg, Path(data.dataset), entries, out, load_judges(**real))
        for name, each in experiments.items():
            run.edit(name, each)
            run.write([str(name) for name in cfg.methods])
        text = run.write([str(name) for name in cfg.methods])
        run.draw([str(name) for name in cfg.methods])
    return f"{text}\n{out / 'table.md'}\n"


def experiment_of(method: Method, overrides: Sequence[str]) -> DictConfig:
    """The complete config of a method.

    Raises:
        ConfigError: If it is no config of a picture, or sets a key that the benchmark does not read.
    """
    words = [*map(str, overrides), *method.overrides]
    experiment = complete(load_config(method.config, cli_args=words))
    if experiment.system_type not in READS:
        raise ConfigError(
            what=f"method {method.name} is a config of {experiment.system_type}", expected="a config of a picture",
            fix="use configs/ssd-image.yaml or configs/editor-image.yaml",
        )  # fmt: skip
    reads = READS[experiment.system_type] | SUPPLIED
    refuse_unread(experiment, "PIE-Bench", reads, {"trainer.max_steps": experiment.system.num_steps})
    return experiment


def _check_published(cfg: DictConfig) -> None:
    for name, values in cfg.published.items():
        if len(list(values)) != len(TABLE_OF_PAPER):
            raise ConfigError(
                what=f"system.published.{name} is {values}", expected="distance, LPIPS, MSE and CLIP",
                fix=f"write {name}: [11.65, 54.55, 32.86, 25.02]",
            )  # fmt: skip


def _of_group(rows: Sequence[Mapping[str, Any]], group: int) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["group"] == group]


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
