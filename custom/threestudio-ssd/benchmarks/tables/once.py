"""Runs and figures that are made once: kept with what they were made with, and taken up where they were stopped."""

import hashlib
import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from threestudio.utils.config import parse_structured
from threestudio.utils.config_compare import settings

from ...cameras import load_cameras
from ...files import sha256, write_json
from ...images import save_rows
from ...report.evaluate import GRID_VIEWS, evaluate_edit
from ...report.evaluate_config import EvaluateConfig
from ..fingerprint import CANNOT_CHANGE_RESULTS, check_same, fingerprint, kept

SUPPLIED = frozenset({"system.scene", "data.cameras"})
"""Keys in whose place the table puts the user's files; of those the contents count."""
COSTS = ("steps", "seconds", "noise_predictions", "num_selected", "peak_memory_bytes", "device")
"""What a row says of a run, out of its report."""
FIGURES = (
    "num_views", "clip_similarity", "clip_directional_similarity", "clip_direction_consistency", "psnr_to_before",
    "ssim_to_before", "num_gaussians_before", "num_gaussians_after",
)  # fmt: skip
"""What a row says of a result, out of its measurement."""


def run_once(cfg: DictConfig, folder: Path, result: str, inputs: dict[str, str]) -> dict[str, Any]:
    """Run an experiment unless its result is there; one that was stopped goes on from its checkpoint.

    Args:
        cfg: The complete experiment.
        folder: Where its run folder ``run``, and what it was made with, are kept.
        result: The file in the run's ``save`` that it makes.
        inputs: What the user's files hold, as ``checksums`` says.

    Returns:
        ``exit_code``, and of the run's report what ``COSTS`` names.

    Raises:
        ConfigError: If the folder's run was made with anything else.
    """
    from threestudio.trainer import run_experiment

    made_with = fingerprint(cfg, without=CANNOT_CHANGE_RESULTS | SUPPLIED, **inputs)
    begun, made, run = folder / "settings.json", folder / "made.json", folder / "run"
    if begun.exists():
        fix = f"set out= to another folder, or delete {folder} to make it again"
        check_same(folder, json.loads(begun.read_text(encoding="utf-8")), made_with, fix)
    else:
        write_json(begun, made_with)
    if not (run / "save" / result).is_file():
        made.unlink(missing_ok=True)

    def make() -> dict[str, Any]:
        cfg.trial_dir, cfg.use_timestamp, cfg.resume = str(run), False, "auto"
        code, report = run_experiment(cfg, ["train", "test", "export"]), run / "save" / "report.json"
        facts = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {}
        return {"exit_code": code, **{key: facts.get(key) for key in COSTS}}

    return kept(made, made_with, make)


def figures_once(how: dict[str, Any], files: dict[str, Path], folder: Path, pictures: dict[str, Path]) -> dict:
    """Measure a result unless it was measured in the same way.

    Args:
        how: Keys of ``EvaluateConfig`` that decide the figures.
        files: Its keys that name files, ``before``, ``after`` and ``cameras``; of those the contents count.
        folder: Where the figures are kept, one file for each CLIP and protocol.
        pictures: Where strips of the views ``before`` and ``after`` go.

    Raises:
        ConfigError: If the file's figures were made with anything else.
    """

    def make() -> dict[str, Any]:
        paths = {key: str(path) for key, path in files.items()}
        figures, images = evaluate_edit(parse_structured(EvaluateConfig, {**how, **paths}))
        for path, stack in zip((pictures["before"], pictures["after"]), images, strict=True):
            save_rows(path, [stack[:GRID_VIEWS]])
        return {key: figures.get(key) for key in FIGURES}

    inputs = checksums(files["cameras"], files["before"]) | {"after_sha256": sha256(files["after"])}
    name = f"figures-{how['clip_model']}-{how['protocol']}.json".replace("/", "_")
    return kept(folder / name, settings({**how, **inputs}, frozenset()), make)


def checksums(cameras: Path, scene: Path | None = None) -> dict[str, str]:
    """What a capture holds, wherever it lies: its cameras as they are read, its splat as it is."""
    views = load_cameras(cameras)
    numbers = (views.viewmats, views.Ks, views.widths, views.heights)
    digest = hashlib.sha256(b"".join(values.numpy().tobytes() for values in numbers)).hexdigest()
    return {"cameras_sha256": digest} | ({} if scene is None else {"scene_sha256": sha256(scene)})
