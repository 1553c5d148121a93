"""Sweeps of one's own config: each trial is a run of launch.py with other values, in a folder of its own."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from threestudio.apps import Words
from threestudio.run import load_checked
from threestudio.utils.config import file_name
from threestudio.utils.config_compare import CANNOT_CHANGE_RESULTS, leaves

from ...early import named
from ...edits.keys import CANNOT_CHANGE_EDITS
from ...errors import ConfigError
from ..fingerprint import checksum, fingerprint
from .job import Job, state_of
from .live import in_words
from .plan import Trial

LOOKED_AT = frozenset({"system.clip_model", "data.num_test_views", "data.test_size"})
"""Keys that cannot change an edit, and yet what its report says or shows."""
OF_REPORTS = CANNOT_CHANGE_RESULTS | (CANNOT_CHANGE_EDITS - LOOKED_AT)


def scene_jobs(words: Words, trials: Sequence[Trial], out: str) -> list[Job]:
    """A job for each trial; every config is loaded and checked.

    Args:
        words: Of the command line: the config, and what all trials share.
        trials: What each sets.
        out: Folder of the sweep; empty: ``<exp_root_dir>/<name>-sweep``.

    Raises:
        ConfigError: For the first trial whose config cannot be used, before any trial runs.
    """
    if any(word.startswith("resume=") for word in words.overrides):
        expected, fix = "a sweep without it", "leave it out: trials that were stopped go on by themselves"
        raise ConfigError(what="--run sweep was given a checkpoint to resume", expected=expected, fix=fix)
    folder = Path(out)
    if not out and trials:
        first = load_checked(words.config, [*words.overrides, *trials[0].changes])
        folder = Path(first.exp_root_dir) / f"{file_name(first.name)}-sweep"
    return [_job(words, trial, folder) for trial in trials]


def _job(words: Words, trial: Trial, folder: Path) -> Job:
    overrides = [
        *words.overrides, *trial.changes, f"exp_root_dir={folder.parent}", f"name={folder.name}",
        f"tag={folder_name(trial)}", "use_timestamp=false", "resume=auto",
    ]  # fmt: skip
    cfg = load_checked(words.config, overrides, words.gpu)
    command = ("--config", words.config, *overrides)
    steps = max(0, cfg.trainer.get("max_steps") or 0)
    return Job(trial.name, Path(cfg.trial_dir), command, made_with(cfg), steps, cfg.system_type)


def made_with(cfg: DictConfig) -> dict[str, str]:
    """Everything that a trial's result and report depend on: its config, its models, and the files that it names."""
    values = leaves({key: cfg[key] for key in ("data", "system")})
    files = {key: named(value) for key, value in values.items() if isinstance(value, str) and value}
    sums = {key: checksum(path) for key, path in files.items() if path.is_file()}
    return fingerprint(cfg, without=OF_REPORTS, files=sums)


def folder_name(trial: Trial) -> str:
    """The name of a trial's folder: its own, where a folder may be called that, else with a mark of what it sets."""
    name = file_name(trial.name, 80)
    if name == trial.name.replace(" ", "_"):
        return name
    mark = hashlib.blake2b("\n".join(trial.changes).encode(), digest_size=4).hexdigest()
    return f"{name}-{mark}"


def report_of(job: Job) -> Mapping[str, Any]:
    """What the report of a trial says; empty where there is none yet."""
    file = job.folder / "save" / "report.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def expected_work(jobs: Sequence[Job]) -> str:
    """What a sweep would make, a line for each trial, and how long its steps may take.

    As long a step is taken as in the newest report of these trials, or of another run beside them.
    """
    states = [state_of(job) for job in jobs]
    each = _seconds_a_step(jobs)
    lines, total = [], 0.0
    for job, state in zip(jobs, states, strict=True):
        seconds = 0.0 if state.is_final else job.num_steps * each if each else None
        total += seconds or 0.0
        told = state.status if state.is_final else f"{job.num_steps} steps"
        lines.append(f"{job.name}: {told}" + (f", about {in_words(seconds)}" if seconds else ""))
    estimate = f"about {in_words(total)} of steps, by a run that is there" if each else "run one to know how long"
    return "\n".join([*lines, f"{len(jobs)} trials; {estimate}"]) + "\n"


def _seconds_a_step(jobs: Sequence[Job]) -> float | None:
    near = {job.folder.parent for job in jobs}
    near |= {folder.with_name(folder.name.removesuffix("-sweep")) for folder in near}
    files = [file for folder in near for file in folder.glob("*/save/report.json")]
    for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True):
        report = json.loads(file.read_text(encoding="utf-8"))
        if report.get("steps") and report.get("seconds"):
            return report["seconds"] / report["steps"]
    return None
