"""What a study compares: results of runs or of other tools, put together by what they edit."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ..early import named, splat_file
from ..errors import ConfigError, SceneFormatError
from ..reading import read_json

VIEW_KEYS = ("cameras", "world", "dataparser", "up", "center", "radius", "elevation_deg", "radius_scale", "fov_y_deg")
"""Keys of a run's views that a study takes over."""


@dataclass(frozen=True)
class Result:
    """One method's result of one edit.

    Attributes:
        method: What it is called.
        splat: The file.
        source: The scene before the edit.
        target_prompt: What was asked for.
        views: The run's keys of its views; none of a file alone.
    """

    method: str
    splat: Path
    source: str
    target_prompt: str
    views: Mapping[str, Any]


def edits_of(cfg: Any) -> dict[tuple[str, str], dict[str, Result]]:
    """(source, target prompt) -> method -> result, in the order they were given.

    Args:
        cfg: Keys of ``StudyConfig``.

    Raises:
        ConfigError: If labels do not fit, or an edit has one result, or two of one name.
        SceneFormatError: If a result cannot be found.
    """
    if cfg.labels and len(cfg.labels) != len(cfg.results):
        expected, fix = f"{len(cfg.results)}, one for each result", "write them in the order of the results"
        raise ConfigError(what=f"labels has {len(cfg.labels)} names", expected=expected, fix=fix)
    edits: dict[tuple[str, str], dict[str, Result]] = {}
    for place, path in enumerate(cfg.results):
        result = _read(Path(path), cfg, cfg.labels[place] if cfg.labels else None)
        methods = edits.setdefault((result.source, result.target_prompt), {})
        if result.method in methods:
            raise ConfigError(
                what=f"two results of '{result.target_prompt}' are called {result.method}: {path} is the second",
                expected="a name for each method", fix="set labels=[first,second,...], one for each result",
            )  # fmt: skip
        methods[result.method] = result
    for (source, words), methods in edits.items():
        if len(methods) < 2:
            raise ConfigError(
                what=f"there is one result of '{words}' on {source}", expected="two or more results of each edit",
                fix="name results of other methods whose scene and target_prompt are the same",
            )  # fmt: skip
    if not edits:
        expected, fix = "two or more run folders", "launch.py --run study outputs/A outputs/B out=outputs/study"
        raise ConfigError(what="--run study was given no results", expected=expected, fix=fix)
    return edits


def _read(path: Path, cfg: Any, label: str | None) -> Result:
    if (path / "save" / "report.json").is_file():
        return _read_run(path, label)
    if path.is_dir() and not (path / "meta.json").is_file():
        raise SceneFormatError(
            what=f"{path} holds no save/report.json", expected="the folder of a run that ended, or a splat file",
            fix="name the folder that holds configs, ckpts and save",
        )  # fmt: skip
    splat = splat_file(path)
    if not (cfg.source and cfg.target_prompt):
        raise ConfigError(
            what=f"{path} is a splat, and source or target_prompt is empty",
            expected="the scene before the edit, and what was asked for",
            fix='set source=scene.ply target_prompt="a photo of ..."',
        )  # fmt: skip
    return Result(label or path.stem, splat, str(splat_file(cfg.source).resolve()), cfg.target_prompt, {})


def _read_run(run: Path, label: str | None) -> Result:
    report = read_json(run / "save" / "report.json", "the report of a run", "run the edit again")
    if not isinstance(report, dict) or not report.get("scene") or not report.get("target_prompt"):
        raise SceneFormatError(
            what=f"{run} is no edit of a scene by words",
            expected="a run whose report.json has scene and target_prompt",
            fix="name a run of configs/ssd-gs.yaml or another edit of a scene",
        )  # fmt: skip
    files = sorted(path for path in (run / "save").glob("edited.*") if path.suffix != ".png")
    if not files:
        raise SceneFormatError(
            what=f"{run / 'save'} holds no edited splat", expected="edited.ply or another format",
            fix="launch.py --export writes it",
        )  # fmt: skip
    score = report.get("score")
    name = score["name"] if isinstance(score, dict) and "name" in score else report.get("editor", run.name)
    return Result(
        label or str(name),
        files[0],
        str(splat_file(report["scene"]).resolve()),
        report["target_prompt"],
        _views_of(run),
    )


def _views_of(run: Path) -> dict[str, Any]:
    """The keys of a run's views, where its config is there."""
    path = run / "configs" / "parsed.yaml"
    if not path.is_file():
        return {}
    data = OmegaConf.to_container(OmegaConf.load(path).data, resolve=True)
    assert isinstance(data, dict)
    return {str(key): value for key, value in data.items() if key in VIEW_KEYS}


def read_key(path: str | Path) -> dict[str, Any]:
    """The key of a study.

    Raises:
        SceneFormatError: If it is none.
    """
    expected, fix = "the study-key.json that --run study wrote", "set key=outputs/study/study-key.json"
    if not str(path):
        raise ConfigError(what="key is empty", expected=expected, fix=fix)
    if not (place := named(path)).is_file():
        raise SceneFormatError(what=f"{path} does not exist", expected=expected, fix=fix)
    key = read_json(place, expected, fix)
    if not isinstance(key, dict) or not {"study", "methods", "questions", "pairs"} <= set(key):
        raise SceneFormatError(what=f"{path} is no key of a study", expected=expected, fix=fix)
    return key


def key_text(key: Mapping[str, Any]) -> str:
    """A key as it is written."""
    return json.dumps(key, indent=1, ensure_ascii=False) + "\n"
