"""A run that is watched: the same result, little of its time, pause, stop and export."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from tests.edit_world import QUIET, experiment, run, toy_parts, write_world
from threestudio.errors import ConfigError
from threestudio.utils.config import load_config
from threestudio_ssd.systems.edit_base import EditSystem
from threestudio_ssd.viewer.live import SHARE, LiveViewer
from threestudio_ssd.viewer.server import Server

KEYS = ("127.0.0.1", 8080, None)
SHORT = {"data.video_frames": 0, "system.preview_every": 0}
WATCHED = {"viewer.enable": "true", **SHORT}

BROWSER = """
import sys
import msgspec, viser
from viser._messages import ViewerCameraMessage
from websockets.sync.client import connect
protocol = f"viser-v{viser.__version__}"
with connect(sys.argv[1], subprotocols=[protocol], max_size=None, compression=None) as socket:
    camera = ViewerCameraMessage(
        (1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1.0, 0.01, 100.0, 480, 640, (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)
    )
    socket.send(msgspec.msgpack.encode(camera.as_serializable_dict()))
    total = 0
    for message in socket:
        total += len(message)
        sys.stdout.write(f"{total}\\n")
        sys.stdout.flush()
"""
"""What a browser does, but for drawing: it connects, says where it looks from, and takes all that it is sent."""


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
def test_being_watched_costs_less_than_a_twentieth(world, tmp_path, capsys):
    """CPU seconds of looks and of all threads but the run's, by those of its steps; a client of its own takes all."""
    words = {"steps": 60, "viewer.enable": "true", **SHORT, **QUIET, "model": "data/tiny-ldm"}
    words["scene"] = "data/toy-scene/scene.ply"
    spent, clients = {"looks": 0.0}, []
    start, end, finish = LiveViewer.on_train_start, LiveViewer.on_train_batch_end, EditSystem.on_fit_end

    def connect(self, trainer, module):
        start(self, trainer, module)
        address = self.server.link.replace("http", "ws")
        clients.append(subprocess.Popen([sys.executable, "-c", BROWSER, address], stdout=subprocess.PIPE))
        while not self.server.get_clients():
            time.sleep(0.05)
        spent["all"], spent["main"] = -time.process_time(), -time.thread_time()

    def look(self, *unused):
        spent["looks"] -= time.thread_time()
        end(self, *unused)
        spent["looks"] += time.thread_time()

    def over(self):
        spent["all"] += time.process_time()
        spent["main"] += time.thread_time()
        finish(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LiveViewer, "on_train_start", connect)
        patch.setattr(LiveViewer, "on_train_batch_end", look)
        patch.setattr(EditSystem, "on_fit_end", over)
        run(world, tmp_path, "train", "export", **words)
    for client in clients:
        client.kill()
        assert int(client.communicate()[0].split()[-1]) > 7e5, "the client saw the scene change"
    others, steps = spent["all"] - spent["main"], spent["main"] - spent["looks"]
    share = (spent["looks"] + others) / steps
    with capsys.disabled():
        sys.stdout.write(f"\nlooks {spent['looks']:.3f} s, others {others:.3f} s, steps {steps:.2f} s: {share:.1%}\n")
    assert share < 0.05
