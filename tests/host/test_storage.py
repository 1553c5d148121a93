"""Disks that are full, broken or taken: found at once where they can be; later they cost neither steps nor result."""

import errno
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
import torch

from threestudio.checkpoints import keep_as
from threestudio.errors import CheckpointError, StorageError, is_storage_error, storage_cause
from threestudio.loggers import LastingCSV
from threestudio.plugins import REPOSITORY, load_plugins
from threestudio.utils import saving
from threestudio.utils.folders import LOCK, check_room, sole_use
from threestudio.utils.memory import allocation_failure
from threestudio.utils.misc import load_checkpoint

HERE = Path(__file__).parent
TOY = str(HERE / "toy.yaml")
RUN = Path("outputs/toy/a_red_cube")
LAST, PREVIOUS = RUN / "ckpts" / "last.ckpt", RUN / "ckpts" / "previous.ckpt"


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path, monkeypatch):
    load_plugins(HERE / "plugins")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("THREESTUDIO_PLUGIN_FOLDERS", str(HERE / "plugins"))


@pytest.fixture
def fill(monkeypatch):
    """Stands in for a disk without room: files below a folder can be begun, not kept, if their names hold a word."""

    def fill(folder, *words):
        sync = saving.sync

        def full(path):
            path = Path(path).absolute()
            is_meant = path.is_file() and any(word in str(path) for word in words)
            if is_meant and path.is_relative_to(Path(folder).absolute()):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            sync(path)

        monkeypatch.setattr(saving, "sync", full)

    return fill


def test_a_disk_that_fills_up_costs_neither_steps_nor_result(launch, whole, fill):
    """Checkpoints and report cannot be written, the result goes elsewhere, and the exit code says so."""
    fill(RUN, "last", "save/")
    code, out, err = launch("--config", TOY)
    elsewhere = Path.cwd() / "rescued-toy-a_red_cube" / "save" / "values.npy"
    assert (code, err) == (4, "")
    assert out.splitlines()[-1] == str(elsewhere)
    assert elsewhere.read_bytes() == whole
    path = LAST.absolute()
    assert f"{path} cannot be written (No space left on device); the checkpoint before it stays" in out
    assert f"cannot be written (No space left on device); the result is in {elsewhere.parents[1]}" in out
    assert not LAST.exists()
    assert not (RUN / "save" / "values.npy").exists()


def test_a_result_without_its_report(launch, whole, fill):
    fill(RUN, "frames")
    code, out, err = launch("--config", TOY)
    assert (code, err) == (4, "")
    assert out.splitlines()[-1] == str(RUN / "save" / "values.npy")
    assert "test failed (" in out
    assert (RUN / "save" / "values.npy").read_bytes() == whole


def test_a_full_disk_in_the_first_step_is_exit_code_two(launch, fill):
    fill(RUN, "parsed")
    code, _, err = launch("--config", TOY)
    assert code == 2
    assert err.startswith(f"error: {RUN / 'configs' / 'parsed.yaml'} cannot be written (No space left on device); ")
    assert not RUN.exists()


def test_a_run_that_is_stopped_on_a_full_disk_is_rescued_and_goes_on_from_there(launch, fill):
    fill(RUN, "last")
    code, _, err = launch("--config", TOY, "system.interrupt_at=6", "system.signal=SIGTERM")
    elsewhere = Path.cwd() / "rescued-toy-a_red_cube"
    assert (code, err) == (143, f"interrupted; go on with --resume {elsewhere / 'ckpts' / 'last.ckpt'}\n")
    assert load_checkpoint(elsewhere / "ckpts" / "last.ckpt")["global_step"] == 7
    code, out, _ = launch("--resume", str(elsewhere))
    assert code == 0
    assert out.splitlines()[-1] == str(elsewhere / "save" / "values.npy")


def test_nowhere_to_write_is_said_with_the_places_that_were_tried(launch, fill, tmp_path):
    fill(RUN, "save/")
    fill(tmp_path, "save/")
    code, _, err = launch("--config", TOY)
    assert code == 2
    assert "make room, then write the result with --export --resume" in err


def flip_a_bit(checkpoint):
    """Change one bit of its largest part, as a disk that ages does."""
    content = bytearray(checkpoint.read_bytes())
    with zipfile.ZipFile(checkpoint) as parts:
        largest = parts.read(max(parts.infolist(), key=lambda part: part.file_size))
    content[content.index(largest) + len(largest) // 2] ^= 1
    checkpoint.write_bytes(content)


def test_the_newest_checkpoint_is_broken(launch, whole):
    """``auto`` and a folder go back to the one before it, with a line; a path is told of it."""
    launch("--config", TOY, "trainer.max_steps=11")
    assert torch.load(PREVIOUS, weights_only=True)["global_step"] == 10
    flip_a_bit(LAST)
    code, _, err = launch("--resume", str(LAST))
    assert code == 2
    assert err.endswith(f"go on from the one before it, --resume {PREVIOUS}\n")
    code, out, err = launch("--config", TOY, "--resume", "auto")
    assert (code, err) == (0, "")
    assert f"{LAST} cannot be read as a checkpoint (ValueError); going back to {PREVIOUS}, the one before it" in out
    assert (RUN / "save" / "values.npy").read_bytes() == whole
    assert torch.load(LAST, weights_only=True)["global_step"] == 12
    assert torch.load(PREVIOUS, weights_only=True)["global_step"] >= 10
    LAST.write_bytes(b"PK")
    assert launch("--resume", str(RUN))[0] == 0
    assert (RUN / "save" / "values.npy").read_bytes() == whole


def test_both_checkpoints_are_broken(launch):
    launch("--config", TOY, "steps=12", "trainer.max_steps=11")
    for path in (LAST, PREVIOUS):
        path.write_bytes(path.read_bytes()[:100])
    code, _, err = launch("--resume", str(RUN))
    assert code == 2
    assert err.startswith(f"error: {PREVIOUS} cannot be read as a checkpoint")


def test_a_checkpoint_never_leaves_its_file_system(launch, monkeypatch, tmp_path):
    """Nothing of it goes through the folder for temporary files."""
    monkeypatch.setenv("TMPDIR", "/proc/no-such-place")
    assert launch("--config", TOY)[0] == 0
    assert load_checkpoint(LAST)["global_step"] == 12


def test_a_file_keeps_its_content_under_a_second_name(tmp_path, monkeypatch):
    for has_links in (True, False):
        path, other = tmp_path / f"a{has_links}", tmp_path / "b"
        path.write_text("new")
        other.write_text("old")
        if not has_links:
            monkeypatch.setattr(os, "link", lambda *names: (_ for _ in ()).throw(OSError(errno.EPERM, "no links")))
        keep_as(path, other)
        assert other.read_text() == "new"
        assert path.exists() == has_links


def test_two_runs_in_one_folder(launch):
    """The second is refused, by another process as well, and the folder is free when the first has ended."""
    program = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
from threestudio.utils.folders import sole_use
with sole_use({str(RUN)!r}):
    print("in", flush=True)
    sys.stdin.read()
"""
    first = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "in\n"
    code, _, err = launch("--config", TOY)
    assert code == 2
    assert err.startswith(f"error: {RUN} is in use by another run (process {first.pid} on ")
    first.kill()
    first.wait()
    assert (RUN / LOCK).exists()
    assert launch("--config", TOY)[0] == 0
    assert not (RUN / LOCK).exists()


def test_a_folder_that_nothing_was_written_into_goes(tmp_path):
    with sole_use(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / LOCK).exists()
        with pytest.raises(StorageError), sole_use(tmp_path / "a" / "b"):
            pass
    assert not (tmp_path / "a").exists()


def test_room_is_asked_for(tmp_path):
    check_room(tmp_path / "run", 2**20)
    assert not (tmp_path / "run").exists()
    with pytest.raises(StorageError, match="with room for 1125899907 MB"):
        check_room(tmp_path / "run", 2**50)


def test_what_a_killed_run_left_is_removed(launch):
    launch("--config", TOY, "trainer.max_steps=5")
    left = [RUN / "ckpts" / ".last.0123abcd.tmp.ckpt", RUN / "save" / "frames" / ".0.89abcdef.tmp.png"]
    kept = RUN / "ckpts" / ".notes.tmp"
    for path in (*left, kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    launch("--resume", str(RUN))
    assert not any(path.exists() for path in left)
    assert kept.exists()


def test_a_log_that_cannot_be_written_is_given_up(tmp_path, caplog, monkeypatch):
    logger = LastingCSV(str(tmp_path), name="csv_logs")
    logger.log_metrics({"loss": 1.0}, 0)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(logger.experiment, "save", full)
    for step in range(3):
        logger.log_metrics({"loss": 1.0}, step)
        logger.save()
    logger.finalize("success")
    (record,) = caplog.records
    assert record.getMessage() == "csv_logs cannot be written any more (No space left on device); the run goes on"


def test_what_counts_as_a_full_disk():
    wrapped = RuntimeError("unexpected pos 704 vs 598")
    wrapped.__cause__ = OSError(errno.EFBIG, "File too large")
    assert storage_cause(wrapped) is wrapped.__cause__
    assert is_storage_error(wrapped)
    assert is_storage_error(OSError("120000 requested and 19872 written"))
    assert not is_storage_error(OSError(errno.ECONNREFUSED, "no"))
    assert not is_storage_error(CheckpointError(what="a", expected="b", fix="c"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0"), "2.50 GiB were wanted"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000000000 bytes."),
            "4.00 GB were wanted",
        ),
        (MemoryError("Unable to allocate 7.45 GiB for an array"), "7.45 GiB were wanted"),
        (MemoryError(), "how much was wanted is not said"),
        (RuntimeError("shapes do not fit"), None),
    ],
)
def test_what_counts_as_too_little_memory(error, said):
    assert allocation_failure(error) == said


def test_a_run_that_lacks_memory_names_stage_size_and_checkpoint(launch, monkeypatch):
    from toy_fit.system import ToySystem

    step = ToySystem.training_step

    def greedy(self, batch, batch_idx):
        if self.true_global_step == 7:
            torch.empty(2**60)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ToySystem, "training_step", greedy)
    code, _, err = launch("--config", TOY)
    assert code == 2
    assert err.startswith("error: step 7 ran out of memory (")
    assert "GB were wanted" in err
    assert err.endswith(f"then go on with --resume {LAST}\n")


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_no_generator_takes(launch, seed):
    code, _, err = launch("--config", TOY, f"seed={seed}")
    assert code == 2
    assert err == (f"error: seed is {seed}; expected 0 to 4294967295, which every generator takes; set seed=0\n")
