"""One edit with several seeds: all are kept, ranked by what their reports measured, and the best one is exported."""

import copy
import json
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

import threestudio

from ..errors import ConfigError
from ..files import write_image, write_json
from ..report.history import HISTORY
from ..report.results import Result, find_result
from .compare import views_by_name, views_of
from .fingerprint import fingerprint, kept
from .grids import labelled_rows

NUM_VIEWS, SIZE = 4, 256
RANKED_BY = {"clip_directional_similarity": -1, "psnr_outside": -1, "speckle": 1}
"""What a candidate is ranked by, and which way: more is better for -1. No judge, no truth."""
KEPT = ("edited*", "selection.npy", "report.json", "report.html", "grid.png", HISTORY)
"""Files of the best candidate that are copied."""


def make_candidates(experiment: DictConfig, count: int, out: Path) -> str:
    """Make every candidate that is not there yet, rank them, and export the best.

    Args:
        experiment: Complete config of an edit of a scene.
        count: How many seeds, from the experiment's on.
        out: Folder: ``candidates/seed-N/`` has the runs, ``candidates.json`` and ``.png`` show all, ``save/`` the best.

    Returns:
        What was made, in lines; the last one is the path of the best.

    Raises:
        ConfigError: If the config edits no scene, or a kept candidate was made by another.
    """
    if "scene" not in experiment.system:
        expected, fix = "an edit of a scene", "use configs/ssd-gs.yaml or configs/shape-gs.yaml"
        raise ConfigError(what=f"the config is of {experiment.system_type}", expected=expected, fix=fix)
    rows = []
    for number in range(count):
        cfg = copy.deepcopy(experiment)
        cfg.seed = cfg.system.seed = cfg.data.seed = experiment.seed + number
        folder = out / "candidates" / f"seed-{cfg.seed}"
        threestudio.info(f"{number + 1} of {count}: seed {cfg.seed}, in {folder}")
        rows.append(kept(folder / "row.json", fingerprint(cfg), partial(_make, cfg, folder)))
    ranking = ranked(rows)
    write_json(out / "candidates.json", {"ranked_by": list(RANKED_BY), "best_first": ranking})
    usable = [row for row in ranking if row["rank"] is not None]
    if not usable:
        return "no candidate can be used"
    results = {row["seed"]: find_result(out / "candidates" / f"seed-{row['seed']}") for row in usable}
    write_image(out / "candidates.png", labelled_rows(_sheet(experiment.system.scene, usable, results)))
    best = _export(results[usable[0]["seed"]], out / "save")
    lines = [f"{row['rank']}. seed {row['seed']}: {_words(row)}" for row in usable]
    return "\n".join([*lines, str(out / "candidates.png"), str(best)])


def ranked(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with their rank, best first: by the mean of their places in each figure that all usable ones have.

    Those that tie keep the order of their seeds; those that cannot be used come last, without a rank.

    Args:
        rows: With ``seed``, ``usable`` and the keys of ``RANKED_BY``.
    """
    usable = [row for row in rows if row["usable"]]
    names = [name for name in RANKED_BY if all(row[name] is not None for row in usable)]

    def place(row: Mapping[str, Any]) -> float:
        better = [sum((row[name] - other[name]) * RANKED_BY[name] > 0 for other in usable) for name in names]
        return sum(better) / max(1, len(better))

    order = sorted(usable, key=lambda row: (place(row), row["seed"]))
    return [{**row, "rank": number} for number, row in enumerate(order, 1)] + [
        {**row, "rank": None} for row in rows if not row["usable"]
    ]


def _make(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """One run, from where it was stopped if it was; its row."""
    from threestudio.trainer import run_experiment

    cfg.trial_dir = str(folder)
    cfg.resume = "auto" if (folder / "ckpts" / "last.ckpt").is_file() else None
    code = run_experiment(cfg, ["train", "test", "export"])
    row = {"seed": cfg.seed, "usable": code == 0, **dict.fromkeys(RANKED_BY)}
    file = folder / "save" / "report.json"
    if code != 0 or not file.is_file():
        return row
    report = json.loads(file.read_text(encoding="utf-8"))
    speckle = [report.get(key) for key in ("speckle_visible", "speckle_visible_before")]
    more = None if None in speckle else speckle[0] - speckle[1]
    return row | {name: report.get(name) for name in RANKED_BY} | {"speckle": more}


def _words(row: Mapping[str, Any]) -> str:
    """What a row was ranked by."""
    units = {"clip_directional_similarity": "direction {:.3f}", "psnr_outside": "outside {:.1f} dB",
             "speckle": "speckle {:+.3f}"}  # fmt: skip
    return ", ".join(text.format(row[name]) for name, text in units.items() if row[name] is not None)


def _sheet(scene: str, rows: Sequence[Mapping[str, Any]], results: Mapping[int, Result]) -> list[list[Any]]:
    """The scene, then each candidate, best first: its seed, and what it was ranked by, above its views."""
    cameras, background = views_of(results[rows[0]["seed"]], "", NUM_VIEWS, SIZE)
    lines = [[("before", image) for _, image in views_by_name(find_result(scene), cameras, background)]]
    for row in rows:
        labels = [f"{row['rank']}. seed {row['seed']}", *_words(row).split(", "), "", "", ""]
        views = views_by_name(results[row["seed"]], cameras, background)
        lines.append([(label, image) for label, (_, image) in zip(labels, views, strict=False)])
    return lines


def _export(best: Result, folder: Path) -> Path:
    """Copy what belongs to the best candidate; its splat's new place."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in [file for pattern in KEPT for file in folder.glob(pattern)]:
        old.unlink()
    for file in [file for pattern in KEPT for file in best.splat.parent.glob(pattern)]:
        shutil.copy2(file, folder / file.name)
    return folder / best.splat.name
