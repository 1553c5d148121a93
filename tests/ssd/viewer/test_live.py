"""A run that is watched: the same result, little of its time, pause, stop and export."""

import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.edit_world import QUIET, experiment, run, toy_parts, write_world
from threestudio.errors import ConfigError
from threestudio.utils.config import load_config
from threestudio_ssd.viewer.live import SHARE, LiveViewer
from threestudio_ssd.viewer.server import Server

KEYS = ("127.0.0.1", 8080, None)
SHORT = {"data.video_frames": 0, "system.preview_every": 0}
WATCHED = {"viewer.enable": "true", **SHORT}

BROWSER = """
import sys
from playwright.sync_api import sync_playwright

with sync_playwright() as playwright:
    flags = ["--no-sandbox", "--use-gl=swiftshader"]
    chromium = playwright.chromium.launch(executable_path=sys.argv[1], args=flags)
    page = chromium.new_page(viewport={"width": 320, "height": 240})
    note = lambda data: sys.stdout.write(f"{len(data)}\\n") and sys.stdout.flush()
    page.on("websocket", lambda socket: socket.on("framereceived", note))
    page.goto(sys.argv[2])
    while True:
        page.wait_for_timeout(200)
"""
"""A browser that looks, in a process of its own; prints the size of everything that it is sent."""
BLOCK, BLOCKS = 20, 24
"""Steps with or without the viewer in turn, and how many times."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def watched(monkeypatch):
    """Somebody looks, and at every step."""
    monkeypatch.setattr(Server, "get_clients", lambda self: {0: SimpleNamespace()})
    monkeypatch.setattr("threestudio_ssd.viewer.live.LEAST_SECONDS", 0.0)
    monkeypatch.setattr("threestudio_ssd.viewer.live.SHARE", 1e9)


def at_step(monkeypatch, step: int, action: str) -> list[torch.Tensor]:
    """Press a button when a step is shown; the colours of all scenes that were sent, as they come."""
    sent, look, send = [], LiveViewer._look, LiveViewer._send

    def pressing(self, trainer, module):
        look(self, trainer, module)
        if module.true_global_step == step:
            getattr(self, action)()

    def noting(self, scene):
        sent.append(scene.sh0.clone())
        send(self, scene)

    monkeypatch.setattr(LiveViewer, "_look", pressing)
    monkeypatch.setattr(LiveViewer, "_send", noting)
    return sent


def test_a_watched_run_gives_the_same_bytes_and_one_can_be_stopped(world, tmp_path, watched, monkeypatch):
    code, alone = run(world, tmp_path / "alone", "train", "export", **SHORT)
    assert code == 0
    sent = at_step(monkeypatch, -1, "_end")
    code, seen = run(world, tmp_path / "seen", "train", "export", **WATCHED)
    assert code == 0
    assert (seen / "save" / "edited.ply").read_bytes() == (alone / "save" / "edited.ply").read_bytes()
    assert len(sent) >= 5
    assert not torch.equal(sent[0], sent[-1])
    monkeypatch.undo()
    sent = at_step(monkeypatch, 0, "_end")
    code, stopped = run(world, tmp_path / "stopped", "train", "export", **WATCHED)
    assert code == 0
    assert len(sent) == 2, "before the first step and at the end, since nobody looks now"
    assert (stopped / "save" / "edited.ply").read_bytes() != (seen / "save" / "edited.ply").read_bytes()


def follower(**more) -> tuple[SimpleNamespace, SimpleNamespace, list[str]]:
    """A trainer and a module as a viewer sees them, and what its clock was told."""
    told: list[str] = []
    clock = SimpleNamespace(stop=lambda: told.append("stop"), start=lambda: told.append("start"))
    gaussians = toy_parts(60)[0]
    module = SimpleNamespace(
        clock=clock, true_global_step=1, device=torch.device("cpu"), scene_now=lambda: gaussians, job=None, **more
    )
    return SimpleNamespace(max_steps=10, should_stop=False), module, told


def test_a_pause_does_not_count_and_ends_with_a_click_or_ctrl_c():
    trainer, module, told = follower()
    is_interrupted = []
    viewer = LiveViewer(*KEYS, lambda: bool(is_interrupted))
    try:
        viewer.on_train_start(trainer, module)
        viewer._switch()
        assert viewer._pause.label == "go on"
        is_interrupted.append(True)
        viewer.on_train_batch_end(trainer, module)
        assert told == ["stop", "start"]
        assert "paused" in viewer._facts.content
        viewer._end()
        viewer.on_train_batch_end(trainer, module)
        assert (trainer.should_stop, told) == (True, ["stop", "start"])
        assert "step 1 of 10" in viewer._facts.content
    finally:
        viewer.server.stop()


def test_looks_wait_until_the_steps_took_so_much_longer(monkeypatch):
    trainer, module, _ = follower()
    monkeypatch.setattr(Server, "get_clients", lambda self: {0: None})
    monkeypatch.setattr("threestudio_ssd.viewer.live.LEAST_SECONDS", 0.0)
    viewer = LiveViewer(*KEYS, lambda: False)
    try:
        monkeypatch.setattr(viewer, "_look", lambda *unused: time.sleep(0.02))
        viewer.on_train_start(trainer, module)
        begin = time.monotonic()
        while time.monotonic() - begin < 2:
            viewer.on_train_batch_end(trainer, module)
        assert 0 < viewer._spent < SHARE * (time.monotonic() - begin) + 0.2
        monkeypatch.setattr(viewer.server, "get_clients", dict)
        spent = viewer._spent
        viewer._begin -= 1000
        viewer.on_train_batch_end(trainer, module)
        assert viewer._spent == spent, "nobody looks"
    finally:
        viewer.server.stop()


def test_every_config_takes_the_keys_and_refuses_others(world, tmp_path):
    cfg = experiment(world, tmp_path)
    assert dict(cfg.viewer) == {"enable": False, "host": "127.0.0.1", "port": 8080, "token": None}
    with pytest.raises(ConfigError, match="viewer.enabled"):
        load_config("configs/smoke/edit.yaml", cli_args=["viewer.enabled=true"])


@pytest.mark.slow
@pytest.mark.parametrize("is_looked_at", [True, False])
def test_being_watched_costs_less_than_a_twentieth(world, tmp_path, capsys, browser, is_looked_at):
    """CPU seconds of blocks of steps with the viewer by those of blocks without it, in turn, in one run."""
    words = {"steps": BLOCK * (BLOCKS + 1), "viewer.enable": "true", **SHORT, **QUIET, "model": "data/tiny-ldm"}
    words["scene"] = "data/toy-scene/scene.ply"
    start, end, clients, times = LiveViewer.on_train_start, LiveViewer.on_train_batch_end, [], []

    def connect(self, trainer, module):
        start(self, trainer, module)
        if is_looked_at:
            program = browser.browser_type.executable_path
            command = [sys.executable, "-c", BROWSER, shutil.which("chromium") or program, self.server.link]
            clients.append(subprocess.Popen(command, stdout=subprocess.PIPE))
            while not self.server.get_clients():
                time.sleep(0.05)

    def now_and_then(self, trainer, module, *unused):
        block, place = divmod(module.true_global_step, BLOCK)
        if place == 0:
            times.append((time.thread_time(), time.process_time()))
        if block % 2:
            end(self, trainer, module)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LiveViewer, "on_train_start", connect)
        patch.setattr(LiveViewer, "on_train_batch_end", now_and_then)
        code, _ = run(world, tmp_path, "train", **words)
    assert code == 0
    for client in clients:
        client.kill()
        sizes = [int(line) for line in client.communicate()[0].split()]
        assert sum(size > 1e5 for size in sizes) >= BLOCKS / 3, "the browser saw the scene change"
    spent = np.diff(np.array(times), axis=0)  # (BLOCKS, 2): of the run's thread, of all threads
    ratios = spent[0::2] / spent[1::2] - 1
    with capsys.disabled():
        for name, row in zip(("the run's thread", "all threads"), ratios.T, strict=True):
            quartiles = " ".join(f"{share:+.1%}" for share in np.quantile(row, [0.25, 0.5, 0.75]))
            sys.stdout.write(f"\nbrowser {is_looked_at}, {name}: {quartiles}\n")
    assert np.median(ratios, axis=0).max() < 0.05
