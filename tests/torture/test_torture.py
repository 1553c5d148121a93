"""The short forms of ``make torture`` and ``make soak``; the long ones carry the mark of what is slow."""

import itertools
import signal
import subprocess
import sys
import time

import pytest

from tests.torture import disks, kills, soak
from tests.torture.runs import torments


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    return torments(tmp_path_factory.mktemp("world"))


def survive(every, system, folder, count, how):
    deadline = time.monotonic() + 600
    survived, tried, faults = kills.torture(every[system], folder, count, 1, deadline, itertools.cycle(how))
    assert not faults
    assert survived == tried == count


def test_an_image_edit_that_is_killed_ends_with_the_same_bytes(every, tmp_path):
    survive(every, "image", tmp_path, 2, [signal.SIGKILL, signal.SIGTERM])


@pytest.mark.slow
@pytest.mark.parametrize("system", ["edit", "refit", "delete", "add", "fit", "sweep", "benchmark"])
def test_every_system_that_is_killed_ends_with_the_same_bytes(every, tmp_path, system):
    survive(every, system, tmp_path, 3, [signal.SIGKILL, signal.SIGTERM, signal.SIGKILL])


@pytest.mark.slow
def test_an_image_edit_survives_a_disk_that_gets_full():
    if sys.platform != "linux" or subprocess.call([*disks.ALONE, "true"]):
        pytest.skip("a small disk is made by Linux's unshare, which is not allowed here")
    assert disks.main(["--systems", "image", "--tries", "1"]) == 0


def test_a_short_soak_leaks_no_handles(tmp_path):
    rows, code = soak.soak(tmp_path, 20)
    assert code in (0, 3)
    assert len(rows) == 10
    assert len({files for _, _, files in rows[1:]}) == 1


def test_what_grew_is_said():
    assert soak.faults_of([(1, 100e6, 9), (10, 101e6, 9)]) == []
    assert soak.faults_of([(1, 100e6, 9), (10, 103e6, 10)]) == ["memory grew by 3.0%", "1 more files are open"]
