"""Running the jobs of a sweep: those that are not there, by whoever is asked to, watched on the terminal."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from threestudio.apps import Words
from threestudio.errors import InterruptedRun
from threestudio.run import load_checked
from threestudio.utils.config import load_config

from ...errors import ConfigError, check_least
from ..fingerprint import check_same
from .job import NO_RESULT, Job, kept_settings, put_in_line, state_of
from .keys import RunnerKeys
from .live import Figures, Progress
from .plan import plan_trials
from .results import figures_of, write_results
from .runners import check_runner, run_local, run_on_ray, run_on_slurm
from .scenes import expected_work, report_of, scene_jobs
from .toy import cell_jobs, cell_trials, figures_of_cell, make_cell, write_cells

SHARD = re.compile(r"([1-9]\d*)/([1-9]\d*)")


def run_jobs(jobs: Sequence[Job], keys: Any, folder: Path, figures: Figures, gpu: str | None = None) -> bool:
    """Make every trial that is not there.

    Args:
        jobs: All trials of the sweep.
        keys: Of ``RunnerKeys``, checked against it.
        folder: Of the sweep; jobs of a cluster leave what they send there.
        figures: Reads the figures of a trial for the table.
        gpu: The GPUs that the command line named.

    Returns:
        Whether every trial of this shard has a result.

    Raises:
        ConfigError: If a trial that is there was made with anything else, before any is made.
    """
    check_least("run", keys, RunnerKeys(), {"workers": 1})
    for job in jobs:
        earlier = kept_settings(job)
        if earlier is not None:
            fix = "set run.out to another folder, or delete this one to make the trial again"
            check_same(job.folder, earlier, job.made_with, fix)
    ours = shard_of(jobs, keys.shard)
    todo = [job for job in ours if not state_of(job).is_final]
    check_runner(keys.runner, keys.slurm)
    for job in todo:
        put_in_line(job)
    with Progress(jobs, figures, keys.workers) as look:
        if todo:
            _start(todo, keys, folder, gpu, look)
    return all(state_of(job).status == "done" for job in ours)


def _start(jobs: Sequence[Job], keys: Any, folder: Path, gpu: str | None, look: Callable[[], None]) -> None:
    if keys.runner == "ray":
        run_on_ray(jobs, keys.workers, look)
    elif keys.runner == "slurm":
        run_on_slurm(jobs, keys.workers, keys.slurm, folder / "jobs", look)
    else:
        run_local(jobs, keys.workers, gpu, look)


def shard_of(jobs: Sequence[Job], shard: str) -> list[Job]:
    """Every so-manieth job: of ``3/8`` the third, the eleventh, and so on; all where the shard is empty.

    Raises:
        ConfigError: If it is not of that form.
    """
    if not shard:
        return list(jobs)
    match = SHARD.fullmatch(shard)
    place, count = (int(part) for part in match.groups()) if match else (1, 0)
    if place > count:
        expected, fix = "PLACE/COUNT with PLACE from 1 to COUNT", "set run.shard=1/8, for example"
        raise ConfigError(what=f"run.shard is {shard}", expected=expected, fix=fix)
    return list(jobs[place - 1 :: count])


def sweep(words: Words, keys: Any) -> int:
    """Run a sweep by the keys of ``--run sweep``; returns the exit code."""
    if load_config(words.config, cli_args=words.overrides).system_type == "edit-sweep":
        return _sweep_toy_edits(words, keys)
    if keys.only:
        expected, fix = "a sweep on toy edits", "use run.shard, or sweep.list"
        raise ConfigError(what="run.only names a cell", expected=expected, fix=fix)
    trials = plan_trials(keys.sweep)
    jobs = scene_jobs(words, trials, keys.out)
    if keys.dry_run:
        sys.stdout.write(expected_work(jobs))
        return 0
    folder = jobs[0].folder.parent

    def figures(job: Job) -> Mapping[str, Any]:
        return figures_of(report_of(job), keys.sweep.metrics)

    title = f"Sweep of {words.config}"
    try:
        is_whole = run_jobs(jobs, keys, folder, figures, words.gpu)
    except (KeyboardInterrupt, InterruptedRun):
        write_results(folder, trials, jobs, figures, title)
        raise
    page = write_results(folder, trials, jobs, figures, title)
    sys.stdout.write(f"{folder / 'results.csv'}\n{page}\n")
    return 0 if is_whole else NO_RESULT


def _sweep_toy_edits(words: Words, keys: Any) -> int:
    """The same on edits whose truth is known, which has keys of its own for what varies and where it goes."""
    experiment = load_checked(words.config, words.overrides)
    if keys.only:
        make_cell(experiment, keys.only)
        return 0
    trials = cell_trials(experiment.system)
    jobs = cell_jobs(words, experiment, trials)
    if keys.dry_run:
        sys.stdout.write(expected_work(jobs))
        return 0
    folder = Path(experiment.system.out)
    keys = OmegaConf.merge(keys, {"workers": max(keys.workers, experiment.system.num_processes)})
    is_whole = run_jobs(jobs, keys, folder, figures_of_cell, words.gpu)
    if all(state_of(job).status == "done" for job in jobs):
        sys.stdout.write("".join(f"{path}\n" for path in write_cells(experiment, trials)))
    return 0 if is_whole else NO_RESULT
