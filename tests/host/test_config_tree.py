"""A whole experiment is checked, and completed with every default, before anything is built."""

from dataclasses import dataclass, field

import pytest

import threestudio
from threestudio import registry
from threestudio.errors import ConfigError
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete, config_class_of


@dataclass
class ViewsConfig:
    size: int = 64


class Views:
    pass


class Guidance:
    @dataclass
    class Config:
        scale: float = 7.5


class System:
    @dataclass
    class Config:
        guidance_type: str = "guidance"
        guidance: dict = field(default_factory=dict)
        other_type: str = ""
        other: dict = field(default_factory=dict)


@pytest.fixture(autouse=True)
def _names(monkeypatch):
    monkeypatch.setattr(registry, "__modules__", {})
    for name, held in {"views": Views, "guidance": Guidance, "system": System}.items():
        threestudio.register(name)(held)


def load(text):
    return complete(load_config("data_type: views\nsystem_type: system\n" + text, from_string=True))


def test_defaults_are_filled_in_all_the_way_down():
    cfg = load("")
    assert cfg.data == {"size": 64}
    assert cfg.system == {"guidance_type": "guidance", "guidance": {"scale": 7.5}, "other_type": "", "other": {}}


def test_a_config_beside_its_class_counts():
    assert config_class_of(Views) is ViewsConfig
    assert config_class_of(Guidance) is Guidance.Config
    assert config_class_of(len) is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("data: {siz: 3}", "unknown key data.siz"),
        ("system: {guidance: {scal: 3}}", "unknown key system.guidance.scal"),
        ("system: {guidance: {scale: big}}", "system.guidance.scale is 'big'"),
        ("system: {guidance_type: guidnce}", "system.guidance_type: nothing is registered under 'guidnce'"),
        ("trainer: {max_step: 3}", "unknown key trainer.max_step"),
        ("trainer: {max_steps: 1.5}", "trainer.max_steps is 1.5"),
        ("trainer: {precision: 17}", "trainer.precision is 17"),
        ("trainer: {enable_progress_bar: 3}", "trainer.enable_progress_bar is 3"),
        ("checkpoint: {every: 3}", "unknown key checkpoint.every"),
        ("checkpoint: {save_top_k: x}", "checkpoint.save_top_k is 'x'"),
    ],
)
def test_mistakes_anywhere(text, what):
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert caught.value.what == what


def test_types_must_be_set():
    for text, missing in [("data_type: views\n", "system_type is"), ("seed: 1\n", "data_type and system_type are")]:
        with pytest.raises(ConfigError) as caught:
            complete(load_config(text, from_string=True))
        assert caught.value.what == f"{missing} not set"
        assert caught.value.fix == "start from a config that says both: include: PATH"


def test_trainer_keys_of_every_kind_are_let_through():
    cfg = load("trainer: {max_steps: 3, precision: 16-mixed, devices: [0], accelerator: cpu, gradient_clip_val: 1}")
    assert cfg.trainer.devices == [0]
