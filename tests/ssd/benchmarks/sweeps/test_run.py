"""Running trials: each once, the others go on, whoever runs them; a process that dies is begun again."""

import os
import signal
import sys
import threading
import time

import pytest

from threestudio.utils.config import parse_structured
from threestudio_ssd.benchmarks.sweeps import runners
from threestudio_ssd.benchmarks.sweeps.job import LOG, STATE, Job, State, state_of
from threestudio_ssd.benchmarks.sweeps.keys import RunnerKeys
from threestudio_ssd.benchmarks.sweeps.live import Progress, seconds_left
from threestudio_ssd.benchmarks.sweeps.run import run_jobs, shard_of
from threestudio_ssd.benchmarks.sweeps.runners import gpu_words
from threestudio_ssd.errors import ConfigError, MissingPackageError

LAUNCHER = """
import os, sys, time
name, folder, *_ = sys.argv[1:]
with open(os.path.join(folder, "starts"), "a") as file:
    file.write(f"{os.getpid()} {os.environ.get('OMP_NUM_THREADS')}\\n")
print("train:  50%|##   | 5/10 [00:01<00:01", flush=True)
if name == "wrong":
    print("error: steps is 0; expected at least 1; set steps=4")
    sys.exit(2)
if name == "killed" and len(open(os.path.join(folder, "starts")).readlines()) == 1:
    time.sleep(600)
print("12:00:00 W The edit changed nothing visible.")
sys.exit({"nothing": 3}.get(name, 0))
"""
"""Stands in for launch.py: says how far it is, and ends as its first word says."""


@pytest.fixture
def make(tmp_path):
    launcher = tmp_path / "launch.py"
    launcher.write_text(LAUNCHER)

    def jobs(*names, **made_with):
        folders = {name: tmp_path / "out" / name for name in names}
        return [
            Job(name, folder, (name, str(folder)), made_with, launcher=launcher) for name, folder in folders.items()
        ]

    return jobs


def start(jobs, tmp_path, **keys):
    return run_jobs(jobs, parse_structured(RunnerKeys, keys), tmp_path / "out", lambda job: {})


def starts(job):
    return len((job.folder / "starts").read_text().splitlines())


def test_one_that_fails_does_not_stop_the_others_and_is_made_again(make, tmp_path):
    jobs = make("good", "wrong", "nothing", "fine")
    assert start(jobs, tmp_path, workers=2) is False
    assert [state_of(job).status for job in jobs] == ["done", "failed", "no result", "done"]
    assert state_of(jobs[1]).error == "error: steps is 0; expected at least 1; set steps=4"
    assert state_of(jobs[2]).error == "The edit changed nothing visible."
    assert start(jobs, tmp_path) is False
    assert [starts(job) for job in jobs] == [1, 2, 1, 1]
    assert start([jobs[0], jobs[3]], tmp_path) is True


def test_trials_side_by_side_share_the_threads(make, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    jobs = make("a", "b")
    assert start(jobs, tmp_path, workers=2)
    assert {(job.folder / "starts").read_text().split()[1] for job in jobs} == {"3"}
    assert gpu_words("0,1,2", 0, 2) == ["--gpu", "0,2"]
    assert gpu_words("5", 1, 2) == ["--gpu", "5"]
    assert gpu_words(None, 0, 2) == []


def test_a_result_of_other_settings_is_refused_before_anything_runs(make, tmp_path):
    assert start(make("a", steps="1"), tmp_path)
    with pytest.raises(ConfigError, match=r"a was made with steps 1, and now it is 2; expected one folder for each"):
        start(make("b", "a", steps="2"), tmp_path)
    assert not (tmp_path / "out" / "b").exists()


def test_shards_are_all_of_it_and_merge_in_one_folder(make, tmp_path):
    jobs = make(*"abcde")
    parts = [shard_of(jobs, f"{place}/3") for place in (1, 2, 3)]
    assert sorted(job.name for part in parts for job in part) == list("abcde")
    assert [job.name for job in parts[1]] == ["b", "e"]
    for place in (1, 2, 3):
        assert start(jobs, tmp_path, shard=f"{place}/3")
    assert [starts(job) for job in jobs] == [1] * 5
    assert start(jobs, tmp_path)
    assert [starts(job) for job in jobs] == [1] * 5
    with pytest.raises(ConfigError, match="run.shard is 4/3; expected PLACE/COUNT with PLACE from 1 to COUNT"):
        shard_of(jobs, "4/3")


def test_progress_says_how_far_and_how_long(make, tmp_path):
    (job,) = make("killed")
    thread = threading.Thread(target=start, args=([job], tmp_path), daemon=True)
    thread.start()
    wait_for(lambda: state_of(job).share > 0)
    assert state_of(job).share == 0.5
    kill(job)
    thread.join(30)
    assert state_of(job).status == "failed"
    assert state_of(job).error == f"killed by signal 9; the log is {job.folder / LOG}"
    states = [State("done", 10.0), State("running", 5.0, 0.5), State(), State()]
    assert seconds_left(states, 1) == 25.0
    assert seconds_left(states, 2) == 12.5
    assert seconds_left([State()], 1) is None
    progress = Progress([job], lambda job: {"psnr": 30.126}, 1)
    table = progress._table([State("failed", 3.0, error="error: box is [a]")])
    cells = [str(cell) for column in table.columns for cell in column.cells]
    assert cells == ["killed\n[red]error: box is \\[a][/]", "[red]failed[/]", "3 s", "30.13"]


def wait_for(is_true, seconds=120):
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)


def kill(job):
    os.kill(int((job.folder / "starts").read_text().split()[0]), signal.SIGKILL)


def test_ctrl_c_stops_the_trials_and_keeps_what_is_there(make, tmp_path, monkeypatch):
    done, slow = make("a", "killed")

    def look():
        if state_of(slow).share:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runners.run_local([done, slow], 1, None, look)
    assert state_of(done).status == "done"
    assert state_of(slow).status in ("failed", "stopped")
    assert start([done, slow], tmp_path)
    assert [starts(done), starts(slow)] == [1, 2]


@pytest.mark.parametrize(("runner", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_package_is_named(make, tmp_path, monkeypatch, runner, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError) as error:
        start(make("a"), tmp_path, runner=runner)
    assert str(error.value) == (
        f"runner={runner} needs {package}, which is not installed; expected it installed; "
        "pip install -r requirements-extra.txt"
    )
    assert not (tmp_path / "out").exists()


def test_slurm_is_looked_for_and_its_keys_are_checked(make, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="runner=slurm finds no sbatch here; expected a machine from which jobs"):
        start(make("a"), tmp_path, runner="slurm")
    keys = {"cluster": "local", "timeot_min": 3}
    with pytest.raises(ConfigError, match=r"slurm: submitit says .*timeot_min"):
        start(make("a"), tmp_path, runner="slurm", slurm=keys)


def test_jobs_of_submitit_make_the_trials(make, tmp_path):
    jobs = make("good", "wrong")
    assert start(jobs, tmp_path, runner="slurm", slurm={"cluster": "local", "timeout_min": 5}) is False
    assert [state_of(job).status for job in jobs] == ["done", "failed"]
    assert start(jobs[:1], tmp_path)
    assert starts(jobs[0]) == 1


def test_a_trial_whose_ray_worker_is_killed_is_begun_again(make, tmp_path):
    """On a cluster of two workers made here; the killed one takes the trial's process with it."""
    jobs = make("a", "killed", "b")
    before = threading.Thread(target=_kill_worker_of, args=(jobs[1],))
    before.start()
    assert start(jobs, tmp_path, runner="ray", workers=2) is True
    before.join()
    assert [state_of(job).status for job in jobs] == ["done"] * 3
    assert [starts(job) for job in jobs] == [1, 2, 1]


def _kill_worker_of(job):
    import psutil

    wait_for((job.folder / "starts").exists)
    wait_for(lambda: (job.folder / "starts").read_text().strip() != "")
    trial = psutil.Process(int((job.folder / "starts").read_text().split()[0]))
    worker = trial.parent()
    assert "ray" in " ".join(worker.cmdline())
    worker.kill()
    trial.wait(60)


def test_the_state_is_one_file(make, tmp_path):
    (job,) = make("a", steps="1")
    assert start([job], tmp_path)
    text = (job.folder / STATE).read_text()
    assert '"steps": "1"' in text
    assert '"exit_code": 0' in text
