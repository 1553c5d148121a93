"""The base of systems: optimisers, schedulers, schedules, steps, outcome; and the bases of models."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from threestudio.errors import ConfigError
from threestudio.models.exporters.base import Exporter, ExporterOutput
from threestudio.models.prompt_processors.base import PromptProcessor, hash_prompt
from threestudio.systems.base import BaseSystem
from threestudio.systems.utils import get_parameters, parse_optimizer, parse_scheduler


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.zeros(3))
        self.net = nn.Linear(2, 2)
        self.frozen = nn.Parameter(torch.zeros(1), requires_grad=False)


def test_parameters_of_members():
    model = Two()
    assert get_parameters(model, "means") == [model.means]
    assert get_parameters(model, "net") == [model.net.weight, model.net.bias]
    assert get_parameters(model, "net.bias") == [model.net.bias]
    with pytest.raises(
        ConfigError, match=r"system\.optimizer\.params\.maens names no member of Two; .* did you mean means"
    ):
        get_parameters(model, "maens")


def test_optimizers():
    model = Two()
    config = OmegaConf.create(
        {"name": "Adam", "args": {"lr": 0.1, "betas": [0.9, 0.99]}, "params": {"means": {"lr": 0.5}, "net": {}}}
    )
    optimizer = parse_optimizer(config, model)
    assert [(group["name"], group["lr"], len(group["params"])) for group in optimizer.param_groups] == [
        ("means", 0.5, 1),
        ("net", 0.1, 2),
    ]
    everything = parse_optimizer(OmegaConf.create({"name": "SGD", "args": {"lr": 1.0}}), model)
    assert sum(len(group["params"]) for group in everything.param_groups) == 3


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "AdamWW"}, "system.optimizer.name is 'AdamWW'"),
        ({"name": "Adam", "args": {"learning_rate": 1}}, "system.optimizer.args do not suit Adam"),
    ],
)
def test_optimizers_that_do_not_exist(config, message):
    with pytest.raises(ConfigError, match=message):
        parse_optimizer(OmegaConf.create(config), Two())


def test_schedulers():
    optimizer = torch.optim.SGD(Two().parameters(), lr=1.0)
    config = {"name": "ExponentialLR", "args": {"gamma": 0.5}, "interval": "step"}
    made = parse_scheduler(OmegaConf.create(config), optimizer)
    optimizer.step()
    made["scheduler"].step()
    assert (made["interval"], made["scheduler"].get_last_lr()) == ("step", [0.5])
    for wrong, message in [
        ({"name": "ExponentialLR", "interval": "batch"}, "interval is 'batch'"),
        ({"name": "ExpLR"}, "name is 'ExpLR'"),
    ]:
        with pytest.raises(ConfigError, match=message):
            parse_scheduler(OmegaConf.create(wrong), optimizer)


class System(BaseSystem):
    @dataclass
    class Config(BaseSystem.Config):
        lambda_x: Any = 2.0

    cfg: Config

    def configure(self) -> None:
        self.events = ["configure"]
        self.net = nn.Linear(1, 1)


def test_a_system_is_configured_once_and_knows_its_step():
    system = System({"lambda_x": [0, 0.0, 10.0, 100]})
    assert system.events == ["configure"]
    assert system.C(system.cfg.lambda_x) == 0.0
    system.set_resume_status(1, 50)
    assert (system.true_current_epoch, system.true_global_step) == (1, 50)
    assert system.C(system.cfg.lambda_x) == 5.0
    assert system.outcome() == (0, None)
    system.exit_code, system.result_path = 3, "save/edited.ply"
    assert system.outcome() == (3, "save/edited.ply")


def test_a_system_takes_weights_but_starts_at_step_0(tmp_path):
    source = System()
    torch.save({"state_dict": source.state_dict(), "epoch": 1, "global_step": 9}, tmp_path / "a.ckpt")
    loaded = System({"weights": str(tmp_path / "a.ckpt")})
    assert torch.equal(loaded.net.weight, source.net.weight)
    assert loaded.true_global_step == 0
    kept = System({"weights": str(tmp_path / "a.ckpt"), "weights_ignore_modules": ["net"]})
    assert not torch.equal(kept.net.weight, source.net.weight)


def test_the_config_of_a_system_is_strict():
    with pytest.raises(ConfigError, match="did you mean lambda_x"):
        System({"lamda_x": 1})


@pytest.mark.parametrize("base", [PromptProcessor, Exporter])
def test_bases_say_what_a_subclass_lacks(base):
    with pytest.raises(NotImplementedError, match=f"{base.__name__} does not say"):
        base()()


def test_exports_and_prompt_names():
    assert ExporterOutput("a.ply", "gaussians", {}).save_type == "gaussians"
    assert hash_prompt("model", "a cat") == hash_prompt("model", "a cat") != hash_prompt("model", "a dog")


class OwnOptimizer(System):
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


@pytest.mark.parametrize("key", ["optimizer", "scheduler"])
def test_a_system_that_builds_its_own_optimiser_takes_no_keys_of_another(key):
    assert OwnOptimizer().cfg[key] in ({}, None)
    with pytest.raises(ConfigError) as caught:
        OwnOptimizer({key: {"name": "Adam"}})
    assert caught.value.what == f"system.{key} is set, but OwnOptimizer builds its own optimiser"
    assert caught.value.fix == f"remove system.{key}"
