"""Who runs the trials: processes here, tasks of a Ray cluster, or jobs of a Slurm cluster."""

import importlib
import os
import queue
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from threestudio.plugins import call_in_worker

from ...early import repository
from ...errors import ConfigError, MissingPackageError, first_line
from .job import Job, give_up, make_job, stop_all

MAX_RETRIES = 3
"""How often Ray begins a trial again whose worker died; it goes on from its last checkpoint."""
SECONDS = 1.0
"""Between two looks at how far the trials are."""
SLURM = "slurm"
"""The usual one of submitit's clusters."""
Look = Callable[[], None]


def check_runner(runner: str, keys: Mapping[str, Any]) -> None:
    """Find out whether a runner can run anything here.

    Args:
        runner: local, ray or slurm.
        keys: As for ``run_on_slurm``.

    Raises:
        MissingPackageError: If its package is not installed.
        ConfigError: If there is no Slurm here.
    """
    if runner != "local":
        package({"slurm": "submitit"}.get(runner, runner), f"runner={runner}")
    if runner == "slurm" and keys.get("cluster", SLURM) == SLURM and shutil.which("sbatch") is None:
        expected, fix = "a machine from which jobs can be submitted", "use runner=local, or log in to such a machine"
        raise ConfigError(what="runner=slurm finds no sbatch here", expected=expected, fix=fix)


def run_local(jobs: Sequence[Job], workers: int, gpu: str | None, look: Look) -> None:
    """Some processes at a time, which share threads and GPUs.

    Args:
        jobs: What to run.
        workers: Processes side by side.
        gpu: The GPUs that the command line named, as ``0,1``; each process gets its share of them.
        look: Called about every second.
    """
    slots: queue.SimpleQueue[tuple[list[str], dict[str, str]]] = queue.SimpleQueue()
    for place in range(workers):
        slots.put((gpu_words(gpu, place, workers), _threads(workers)))

    def make(job: Job) -> None:
        words, variables = slots.get()
        try:
            make_job(job, words, variables)
        finally:
            slots.put((words, variables))

    with ThreadPoolExecutor(workers) as pool:
        pending = {pool.submit(make, job) for job in jobs}
        try:
            while pending:
                done, pending = wait(pending, SECONDS, "FIRST_COMPLETED")
                look()
                for each in done:
                    each.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stop_all()
            raise


def gpu_words(gpu: str | None, place: int, workers: int) -> list[str]:
    """``--gpu`` for one of several processes: its share of the GPUs, or one that it shares with others."""
    if gpu is None:
        return []
    names = gpu.split(",")
    return ["--gpu", ",".join(names[place::workers] or [names[place % len(names)]])]


def _threads(workers: int) -> dict[str, str]:
    """Threads of one of several processes; what the environment says already holds, and one alone has them all."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    names = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS") if workers > 1 else ()
    return {name: str(max(1, count // workers)) for name in names if name not in os.environ}


def run_on_ray(jobs: Sequence[Job], workers: int, look: Look) -> None:
    """Tasks of a Ray cluster: the one that ``RAY_ADDRESS`` names, or one made here with so many workers.

    A trial whose worker dies is begun again by another worker, and goes on from its last checkpoint.

    Raises:
        ConfigError: If the cluster does not answer.
    """
    ray = package("ray", "runner=ray")
    address = os.environ.get("RAY_ADDRESS")
    own = {} if address else {"num_cpus": workers, "include_dashboard": False}
    variables = {"PYTHONPATH": _python_path(), **({} if address else _threads(workers))}
    is_ours = not ray.is_initialized()
    if is_ours:
        try:
            ray.init(address=address, log_to_driver=False, runtime_env={"env_vars": variables}, **own)
        except Exception as cause:
            what = f"runner=ray: {f'the cluster {address}' if address else 'a cluster on this machine'} does not answer"
            fix = "check RAY_ADDRESS, leave it out for a cluster on this machine, or use runner=local"
            raise ConfigError(what=f"{what} ({first_line(cause)})", expected="a Ray cluster", fix=fix) from cause
    try:
        share = {"num_gpus": 1} if ray.cluster_resources().get("GPU") else {}
        task = ray.remote(max_retries=MAX_RETRIES, num_cpus=1, **share)(call_in_worker)
        pending = {task.remote(0, _make_for_rank, job): job for job in jobs}
        while pending:
            done, _ = ray.wait(list(pending), timeout=SECONDS)
            look()
            for each in done:
                _collect(lambda each=each: ray.get(each), pending.pop(each), ray.exceptions.RayError)
    finally:
        if is_ours:
            ray.shutdown()


def run_on_slurm(jobs: Sequence[Job], workers: int, keys: Mapping[str, Any], folder: Path, look: Look) -> None:
    """Jobs of a Slurm array by submitit, each one trial, at most so many at a time.

    Args:
        jobs: What to run.
        workers: Jobs at a time.
        keys: ``cluster`` (slurm, or submitit's local), and whatever else submitit's ``update_parameters`` takes.
        folder: Where submitit keeps what it sends and what it gets; every machine sees it.
        look: Called about every second.

    Raises:
        ConfigError: If submitit does not take a key.
    """
    submitit, cluster = package("submitit", "runner=slurm"), keys.get("cluster", SLURM)
    parameters = {key: keys[key] for key in keys if key != "cluster"}
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    try:
        executor.update_parameters(name="sweep", slurm_array_parallelism=workers, **parameters)
    except (NameError, TypeError, ValueError) as cause:
        what, expected = f"slurm: submitit says {first_line(cause)}", "parameters of its AutoExecutor"
        raise ConfigError(what=what, expected=expected, fix="correct slurm.KEY=...") from cause
    os.environ["PYTHONPATH"] = _python_path()
    with executor.batch():
        pending = {executor.submit(call_in_worker, 0, _make_for_rank, job): job for job in jobs}
    errors = (submitit.core.utils.FailedJobError, submitit.core.utils.UncompletedJobError)
    try:
        while pending:
            time.sleep(SECONDS)
            look()
            for each in [job for job in pending if job.done()]:
                _collect(each.result, pending.pop(each), errors)
    except BaseException:
        for each in pending:
            each.cancel()
        raise


def package(name: str, feature: str) -> Any:
    """An optional package.

    Raises:
        MissingPackageError: If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as cause:
        raise MissingPackageError(
            what=f"{feature} needs {name}, which is not installed",
            expected="it installed",
            fix="pip install -r requirements-extra.txt",
        ) from cause


def _make_for_rank(rank: int, job: Job) -> None:
    make_job(job)


def _collect(result: Callable[[], Any], job: Job, errors: Any) -> None:
    """Take the end of a task; one that the cluster gave up is a trial that failed."""
    try:
        result()
    except errors as cause:
        give_up(job, first_line(cause))


def _python_path() -> str:
    """Where a worker finds the packages of this repository."""
    return os.pathsep.join(filter(None, [str(repository()), os.environ.get("PYTHONPATH")]))
