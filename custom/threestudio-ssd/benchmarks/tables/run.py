"""A published table on a user's captures: fit, edit, measure, tabulate. Goes on where it was stopped."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

import threestudio
from threestudio.utils.folders import sole_use

from ...errors import ConfigError
from ...metrics import check_clip, clip_beside
from ...pretrained import is_embedded
from ...systems.edit_base import splat_suffix
from ..fingerprint import weights_of
from .captures import NAMES, Capture, find_capture
from .keys import TableEdit, edits_of, published_figures
from .methods import TableMethod, chosen_methods, complete_config, other_tools
from .once import FIGURES, checksums, figures_once, run_once
from .report import TableText


@dataclass(frozen=True)
class TableJob:
    """One edit of one capture by one method."""

    name: str
    edit: TableEdit
    capture: Capture
    method: TableMethod


@dataclass(frozen=True)
class TableRun:
    """What all jobs of a table share.

    Attributes:
        cfg: Keys of ``EditTable``.
        out: Where everything goes.
        edited: Splats that other tools edited, a folder for each of them.
        clip_model: The CLIP that measures.
        world: How the captures' cameras are read, by the keys of ``GSViewsConfig``.
    """

    cfg: DictConfig
    out: Path
    edited: Path | None
    clip_model: str
    world: dict[str, Any]

    def row(self, job: TableJob) -> dict[str, Any]:
        """Who edited what, what it took, and the figures; figures of None where there is no result."""
        edit, scene = job.edit, self.splat(job.capture)
        row = {
            "edit": job.name, "dataset": edit.dataset, "scene": edit.scene, "method": job.method.name,
            "source_prompt": edit.source_prompt, "target_prompt": edit.target_prompt, "captions_by": edit.captions_by,
            "instruction": edit.instruction if job.method.is_instructed else "",
            "instruction_by": edit.instruction_by if job.method.is_instructed else "",
        }  # fmt: skip
        folder = self.out / "edits" / job.name / job.method.name
        after = self.result_of_other_tool(job)
        if after is None:
            result = f"edited{splat_suffix(str(scene))}"
            words = [f"system.clip_model={self.clip_model}"]
            if job.capture.splat is None:  # it was fitted to these photographs, however few the steps
                words.append("data.check_capture=false")
            cfg = job.method.experiment_of(edit, job.capture, scene, self.cfg.has_masks, *words)
            row |= run_once(cfg, folder, result, checksums(job.capture.cameras, scene))
            after = folder / "run" / "save" / result
        if not after.is_file():
            return row | dict.fromkeys(FIGURES)
        how = {
            "clip_model": self.clip_model, "protocol": self.cfg.protocol, "num_views": self.cfg.num_views,
            "seed": self.cfg.pose_seed, "path_frames": self.cfg.path_frames, "size": self.cfg.view_size,
            "source_prompt": edit.source_prompt, "target_prompt": edit.target_prompt, **self.world,
        }  # fmt: skip
        files = {"before": scene, "after": after, "cameras": job.capture.cameras}
        strips = self.out / "pictures" / job.name
        pictures = {"before": strips / "source.png", "after": strips / f"{job.method.name}.png"}
        return row | figures_once(how, files, folder, pictures)

    def splat(self, capture: Capture) -> Path:
        """The splat of a capture; where it has none, one that is fitted to its photographs."""
        if capture.splat is not None:
            return capture.splat
        config, *changes = (str(word) for word in self.cfg.fit)
        cfg = complete_config(config, *changes, f"cameras={capture.cameras}")
        folder = self.out / "fits" / capture.name
        run_once(cfg, folder, "fitted.ply", checksums(capture.cameras))
        return folder / "run" / "save" / "fitted.ply"

    def result_of_other_tool(self, job: TableJob) -> Path | None:
        """Where the result of another tool is; None for a method that edits here."""
        if job.method.config or self.edited is None:
            return None
        return self.edited / job.method.name / f"{job.name}.ply"

    def is_possible(self, job: TableJob) -> bool:
        """Whether a method has what it reads: an instruction, or the result that another tool left."""
        after = self.result_of_other_tool(job)
        has_words = bool(job.edit.instruction) or not job.method.is_instructed
        return has_words and (after is None or after.is_file())


def run_table(keys: Any, experiment: DictConfig) -> str:
    """Make what is missing of a table.

    Args:
        keys: Of ``--run reproduce-table1``: ``data``, ``splats``, ``edited`` and ``out``.
        experiment: Complete config with ``data_type: table-edits`` and ``system_type: edit-table``.

    Returns:
        The table and its path, for printing.

    Raises:
        ConfigError: If no scene can be edited, or for anything that a config or a model lacks; before any work.
    """
    if experiment.system_type != "edit-table":
        raise ConfigError(
            what=f"the config is one of {experiment.system_type}", expected="system_type: edit-table",
            fix="use one of configs/tables",
        )  # fmt: skip
    cfg, edits = experiment.system, edits_of(experiment.data)
    folders, methods = _folders(keys), chosen_methods(cfg)
    captures, lacking = _captures(folders, edits, experiment)
    edited = folders.get("edited")
    run = TableRun(cfg, Path(keys.out), edited, _check_models(methods, cfg), _world(methods))
    text = TableText(cfg.title, run.clip_model, cfg.protocol, lacking, published_figures(cfg))
    methods += other_tools(edited) if edited is not None else []
    everything = [
        TableJob(name, edit, captures[edit.scene], method)
        for name, edit in edits.items()
        if edit.scene in captures
        for method in methods
    ]
    jobs, rows = [job for job in everything if run.is_possible(job)], []
    with sole_use(run.out):
        for number, job in enumerate(jobs, 1):
            threestudio.info(f"{number} of {len(jobs)}: {job.name} by {job.method.name}")
            rows.append(run.row(job))
            text.write(run.out, rows, len(jobs))
        return f"{text.write(run.out, rows, len(jobs))}\n{run.out / 'table.md'}\n"


def _folders(keys: Any) -> dict[str, Path]:
    """The user's folders by key: ``data``, and of ``splats`` and ``edited`` those that are named.

    Raises:
        ConfigError: If ``data`` is not named, or one of them is no folder.
    """
    if not keys.data:
        fix = "set data=FOLDER; docs/published.md says what is in it"
        raise ConfigError(what="data is empty", expected="the folder of the captures", fix=fix)
    folders = {key: Path(keys[key]) for key in ("data", "splats", "edited") if keys[key]}
    for key, folder in folders.items():
        if not folder.is_dir():
            raise ConfigError(what=f"{key} {folder} is no folder", expected="a folder", fix="check the path")
    return folders


def _captures(
    folders: dict[str, Path], edits: dict[str, TableEdit], experiment: DictConfig
) -> tuple[dict[str, Capture], dict[str, str]]:
    """The scenes that can be edited, and why each of the others cannot.

    Raises:
        ConfigError: If none can.
    """
    roots = [folders[key] for key in ("data", "splats") if key in folders]
    captures: dict[str, Capture] = {}
    lacking: dict[str, str] = {}
    absent = []
    for edit in {edit.scene: edit for edit in edits.values()}.values():
        places = [str(name) for name in experiment.data.datasets[edit.dataset]]
        capture = find_capture(roots, places, edit.scene, experiment.system.fits_missing)
        if isinstance(capture, Capture):
            captures[edit.scene] = capture
        elif capture is None:
            absent.append(edit.scene)
        else:
            lacking[edit.scene] = capture
    if not captures:
        why = [f"{scene}: {reason}" for scene, reason in lacking.items()] or [f"it has none of {', '.join(absent)}"]
        raise ConfigError(
            what=f"data {roots[0]} holds no scene of the table that can be edited ({'; '.join(why)})",
            expected=f"DATASET/SCENE or SCENE with cameras, and {NAMES[0]} or photographs",
            fix="docs/published.md shows the folder",
        )  # fmt: skip
    lacking |= dict.fromkeys(absent, f"it is not in {roots[0]}")
    for scene, reason in lacking.items():
        threestudio.info(f"left out: {scene}: {reason}")
    return captures, lacking


def _check_models(methods: Sequence[TableMethod], cfg: DictConfig) -> str:
    """Find out before any work whether all models can be had; returns the CLIP that measures."""
    guidances = [method.experiment().system.guidance for method in methods]
    for guidance in guidances:
        weights_of(guidance)
    clip_model = cfg.clip_model
    if clip_model == "auto":
        real = [guidance.model for guidance in guidances if not is_embedded(guidance.model)]
        clip_model = clip_beside((real or [guidance.model for guidance in guidances] or ["another tool's"])[0])
    check_clip(clip_model, any(guidance.get("offline", False) for guidance in guidances))
    return "tiny-clip" if is_embedded(clip_model) else clip_model


def _world(methods: Sequence[TableMethod]) -> dict[str, Any]:
    """How cameras are read, by the first method; what the table changes, it changes for all of them."""
    return {key: methods[0].experiment().data[key] for key in ("world", "dataparser", "up")} if methods else {}
