"""What stops a run, and what must not: signals in every stage, a reader that leaves, ``--resume`` without a config."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from threestudio import streams
from threestudio.plugins import REPOSITORY, load_plugins
from threestudio.run_folder import folder_of_run
from threestudio.signals import STOPS, give_back, stopping, take_over

HERE = Path(__file__).parent
TOY = str(HERE / "toy.yaml")
RUN = Path("outputs/toy/a_red_cube")
LAST = RUN / "ckpts" / "last.ckpt"


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path, monkeypatch):
    load_plugins(HERE / "plugins")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THREESTUDIO_PLUGIN_FOLDERS", str(HERE / "plugins"))


SIGNALS = [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129), ("SIGUSR1", 138)]


def test_the_way_to_go_on_can_be_pasted_where_a_folder_has_a_space(launch):
    code, _, err = launch("--config", TOY, "exp_root_dir=a b", "system.interrupt_at=6", "system.signal=SIGTERM")
    assert code == 143
    words = shlex.split(err.removeprefix("interrupted; go on with "))
    assert words == ["--resume", "a b/toy/a_red_cube/ckpts/last.ckpt"]
    assert launch(*words)[0] == 0


@pytest.mark.parametrize(("name", "code"), SIGNALS)
def test_a_signal_during_training_is_what_ctrl_c_is(launch, whole, name, code):
    """The step is finished, a checkpoint written, the way to go on said; and that way, as it stands, leads there."""
    handlers = {stop: signal.getsignal(stop) for stop in STOPS}
    got = launch("--config", TOY, "system.interrupt_at=6", f"system.signal={name}")
    assert (got[0], got[2]) == (code, f"interrupted; go on with --resume {LAST}\n")
    assert torch.load(LAST, weights_only=True)["global_step"] == 7
    assert {stop: signal.getsignal(stop) for stop in STOPS} == handlers
    words = got[2].split("go on with ")[1].split()
    code, out, err = launch(*words)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == str(RUN / "save" / "values.npy")
    assert (RUN / "save" / "values.npy").read_bytes() == whole


@pytest.mark.parametrize("stage", ["setup", "test", "export"])
@pytest.mark.parametrize(("name", "code"), SIGNALS[:2])
def test_a_signal_in_any_other_stage(launch, whole, stage, name, code):
    got = launch("--config", TOY, f"system.stop_in={stage}", f"system.signal={name}")
    if stage == "setup":
        assert (got[0], got[2]) == (code, "interrupted before there was a checkpoint\n")
        assert not Path("outputs").exists()
        return
    assert (got[0], got[2]) == (code, f"interrupted; go on with --resume {LAST}\n")
    assert launch("--resume", str(RUN), "system.stop_in=''")[0] == 0
    assert (RUN / "save" / "values.npy").read_bytes() == whole


def test_what_nohup_asks_for_is_kept():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_that_python_did_not_set_become_the_usual_ones():
    before = take_over(lambda signum, frame: None)
    give_back({stop: None for stop in before})
    assert all(signal.getsignal(stop) == signal.SIG_DFL for stop in before)
    give_back(before)


def test_a_run_folder_is_all_that_resume_needs(launch, whole):
    """Also from elsewhere than it was made, and for the stages after the training."""
    assert launch("--config", TOY, "trainer.max_steps=5")[0] == 0
    shutil.move("outputs", "moved")
    run = Path("moved/toy/a_red_cube")
    code, out, err = launch("--resume", str(run), "trainer.max_steps=12")
    assert (code, err) == (0, "")
    assert f"going on from {run / 'ckpts' / 'last.ckpt'}" in out
    assert (run / "save" / "values.npy").read_bytes() == whole
    assert not Path("outputs").exists()
    (run / "save" / "values.npy").unlink()
    assert launch("--export", "--resume", str(run / "ckpts" / "last.ckpt"))[0] == 0
    assert (run / "save" / "values.npy").read_bytes() == whole
    assert launch("--resume", str(run), "tag=other", "trainer.max_steps=12")[0] == 0
    assert Path("outputs/toy/other/save/values.npy").read_bytes() == whole


def test_a_value_of_the_environment_is_in_no_file_of_a_run_that_goes_on_with_it(launch, whole, monkeypatch):
    monkeypatch.setenv("TOY_SCENE", "a-secret-place/a.ply")
    words = ("scene='${oc.env:TOY_SCENE}'", "trainer.max_steps=5")
    assert launch("--config", TOY, *words)[0] == 0
    files = [file for file in RUN.rglob("*") if file.is_file()]
    assert len(files) > 4
    assert not [file for file in files if b"a-secret-place" in file.read_bytes()]
    code, _, err = launch("--resume", str(RUN), "trainer.max_steps=12")
    assert (code, err) == (0, "")
    assert (RUN / "save" / "values.npy").read_bytes() == whole
    assert not [file for file in RUN.rglob("*") if file.is_file() and b"a-secret-place" in file.read_bytes()]
    monkeypatch.setenv("TOY_SCENE", "another-place/a.ply")
    code, _, err = launch("--resume", str(RUN), "trainer.max_steps=13")
    assert code == 2
    assert "was made with another system.scene" in err
    assert "place" not in err


def test_the_folder_of_a_checkpoint(tmp_path):
    (tmp_path / "ckpts").mkdir()
    assert folder_of_run(tmp_path) == tmp_path
    assert folder_of_run(tmp_path / "ckpts" / "last.ckpt") == tmp_path
    os.chdir(tmp_path / "ckpts")
    assert folder_of_run("last.ckpt") == tmp_path


def process(*words, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(REPOSITORY / "launch.py"), *words]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, **options)


def test_a_reader_that_leaves_costs_nothing():
    """As ``launch.py ... | head -1`` does: the pipe is closed after the first line. Nor does none at all."""
    assert process("--config", TOY, "tag=read", stdout=subprocess.DEVNULL).wait(timeout=600) == 0
    whole = Path("outputs/toy/read/save/values.npy").read_bytes()
    run = process("--config", TOY, "tag=piped", stdout=subprocess.PIPE)
    run.stdout.readline()
    run.stdout.close()
    assert (run.wait(timeout=600), run.stderr.read()) == (0, "")
    assert Path("outputs/toy/piped/save/values.npy").read_bytes() == whole

    run = process("--config", TOY, "tag=closed", preexec_fn=lambda: os.close(1))
    assert (run.wait(timeout=600), run.stderr.read()) == (0, "")
    assert Path("outputs/toy/closed/save/values.npy").read_bytes() == whole


@pytest.mark.parametrize("is_closed", [False, True])
@pytest.mark.parametrize("words", [["--help"], ["--run"], ["--progress", "json", "--run", "info", "no.ply"]])
def test_nobody_reads_the_first_line(words, is_closed):
    reader, writer = os.pipe()
    os.close(reader)
    run = process(*words, stdout=writer, preexec_fn=(lambda: os.close(1)) if is_closed else None)
    os.close(writer)
    said = run.stderr.read()
    assert run.wait(timeout=600) == (2 if "no.ply" in words else 0)
    assert not said or (words[0] == "--progress" and len(said.splitlines()) == 1), said


def test_a_process_ends_soon_after_its_last_line():
    """CPU seconds: taking torch and Lightning apart, object by object, takes more."""
    run = process("--config", TOY, "tag=timed", "system.exit_code=3", stdout=subprocess.PIPE)
    used = 0.0
    while run.stdout.readline():
        used = sum(psutil.Process(run.pid).cpu_times()[:2])
    _, status, usage = os.wait4(run.pid, 0)
    run.returncode = os.waitstatus_to_exitcode(status)
    assert (run.returncode, run.stderr.read()) == (3, "")
    assert usage.ru_utime + usage.ru_stime - used < 0.5


def test_all_that_waits_for_the_end_has_its_turn():
    """Threads, functions of ``atexit``, buffers and the exit code; only objects are not taken apart."""
    program = f"""
import atexit, runpy, sys, threading, time
import threestudio.run

class Kept:
    def __del__(self):
        print("taken apart", flush=True)

def main():
    threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
    atexit.register(print, "atexit")
    print("result")
    return 3

threestudio.run.main, threestudio.run.kept = main, Kept()
runpy.run_path({str(REPOSITORY / "launch.py")!r}, run_name="__main__")
"""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "result\nthread\natexit\n", "")


def test_a_stream_drops_what_nobody_reads():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        lasting = streams.LastingStream(stream)
        lasting.write("read\n")
        lasting.flush()
        assert os.read(reader, 9) == b"read\n"
        os.close(reader)
        for _ in range(3):
            assert lasting.write("lost\n") == 5
            lasting.flush()
        assert lasting.fileno() == writer
        assert not lasting.isatty()
