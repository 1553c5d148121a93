"""Configurable things that follow the step."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from threestudio.errors import CheckpointError, ConfigError
from threestudio.utils.base import (
    BaseModule,
    BaseObject,
    Configurable,
    Updateable,
    update_end_if_possible,
    update_if_possible,
)
from threestudio.utils.misc import (
    enable_gradient,
    finish_with_cleanup,
    force_device,
    get_device,
    get_rank,
    load_checkpoint,
    load_module_weights,
)


class Part(BaseObject):
    @dataclass
    class Config(BaseObject.Config):
        size: int = 2

    cfg: Config

    def configure(self, extra: int = 0) -> None:
        self.extra = extra
        self.calls = []

    def update_step(self, epoch, global_step, on_load_weights=False):
        self.calls.append(("start", epoch, global_step, on_load_weights))

    def update_step_end(self, epoch, global_step):
        self.calls.append(("end", epoch, global_step))


class Network(BaseModule):
    def configure(self) -> None:
        self.part = Part()
        self.layer = nn.Linear(2, 2)
        self.inner = Inner()

    def update_step(self, epoch, global_step, on_load_weights=False):
        self.seen = (global_step, on_load_weights)


class Inner(BaseModule):
    def configure(self) -> None:
        self.part = Part()


def test_configure_gets_the_arguments_and_the_config():
    part = Part({"size": 5}, 7)
    assert (part.cfg.size, part.extra) == (5, 7)
    assert Part().cfg.size == 2
    with pytest.raises(ConfigError, match="unknown key siz;"):
        Part({"siz": 5})
    assert Configurable().cfg == {}


def test_members_follow_the_step_each_once():
    network = Network()
    network.again = network.part
    network._hidden = Part()
    network.do_update_step(1, 20)
    network.do_update_step_end(1, 20)
    assert network.part.calls == [("start", 1, 20, False), ("end", 1, 20)]
    assert network.inner.part.calls == network.part.calls
    assert network._hidden.calls == []
    assert network.seen == (20, False)


def test_update_if_possible():
    part = Part()
    update_if_possible(part, 0, 3)
    update_end_if_possible(part, 0, 3)
    update_if_possible(None, 0, 3)
    update_end_if_possible("text", 0, 3)
    assert part.calls == [("start", 0, 3, False), ("end", 0, 3)]
    assert isinstance(part, Updateable)


def test_weights_come_out_of_a_checkpoint(tmp_path):
    source = Network()
    path = tmp_path / "a.ckpt"
    state = {f"net.{key}": value for key, value in source.state_dict().items()} | {"other.x": torch.ones(1)}
    torch.save({"state_dict": state, "epoch": 2, "global_step": 30}, path)
    loaded = Network({"weights": f"{path}:net"})
    assert torch.equal(loaded.layer.weight, source.layer.weight)
    assert loaded.seen == (30, True)
    assert loaded.part.calls == [("start", 2, 30, True)]
    rest, epoch, step = load_module_weights(path, ignore_modules=["net"], map_location="cpu")
    assert (list(rest), epoch, step) == (["other.x"], 2, 30)
    with pytest.raises(ValueError, match="not both"):
        load_module_weights(path, module_name="net", ignore_modules=["net"])


def test_checkpoints_that_cannot_be_used(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "none.ckpt")
    path = tmp_path / "half.ckpt"
    torch.save({"state_dict": {"x": torch.ones(999)}}, path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path)
    torch.save({"weights": 1}, path)
    with pytest.raises(CheckpointError, match="holds no state_dict"):
        load_checkpoint(path)
    torch.save({"state_dict": {}, "evil": Part}, path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path)


def test_device_and_small_helpers(monkeypatch):
    assert get_device().type in ("cpu", "cuda")
    force_device("meta")
    assert get_device() == torch.device("meta")
    assert Part().device == torch.device("meta")
    force_device(None)
    monkeypatch.setenv("RANK", "3")
    assert get_rank() == 3
    layer = nn.Linear(1, 1)
    enable_gradient(layer, False)
    assert not any(param.requires_grad for param in layer.parameters())
    assert finish_with_cleanup(lambda x: x + 1)(1) == 2
