"""One file, no ``include``; keys go to the dataclass as they are written."""

import os
from dataclasses import dataclass, field
from datetime import datetime

from omegaconf import OmegaConf

OmegaConf.register_new_resolver("mul", lambda a, b: a * b)
OmegaConf.register_new_resolver("div", lambda a, b: a / b)
OmegaConf.register_new_resolver("rmspace", lambda text, sub: text.replace(" ", sub))


@dataclass
class ExperimentConfig:
    name: str = "default"
    description: str = ""
    tag: str = ""
    seed: int = 0
    use_timestamp: bool = True
    timestamp: str | None = None
    exp_root_dir: str = "outputs"
    exp_dir: str = "outputs/default"
    trial_name: str = "exp"
    trial_dir: str = "outputs/default/exp"
    n_gpus: int = 1
    resume: str | None = None
    data_type: str = ""
    data: dict = field(default_factory=dict)
    system_type: str = ""
    system: dict = field(default_factory=dict)
    trainer: dict = field(default_factory=dict)
    checkpoint: dict = field(default_factory=dict)

    def __post_init__(self):
        if not self.tag and not self.use_timestamp:
            raise ValueError("tag or use_timestamp")
        if self.timestamp is None:
            self.timestamp = datetime.now().strftime("@%Y%m%d-%H%M%S") if self.use_timestamp else ""
        self.trial_name = self.tag + self.timestamp
        self.exp_dir = os.path.join(self.exp_root_dir, self.name)
        self.trial_dir = os.path.join(self.exp_dir, self.trial_name)
        os.makedirs(self.trial_dir, exist_ok=True)


def load_config(*yamls, cli_args=(), from_string=False, **kwargs):
    parts = [OmegaConf.create(text) if from_string else OmegaConf.load(text) for text in yamls]
    cfg = OmegaConf.merge(*parts, OmegaConf.from_cli(list(cli_args)), kwargs)
    OmegaConf.resolve(cfg)
    return parse_structured(ExperimentConfig, cfg)


def config_to_primitive(config, resolve=True):
    return OmegaConf.to_container(config, resolve=resolve)


def dump_config(path, config):
    with open(path, "w") as file:
        OmegaConf.save(config=config, f=file)


def parse_structured(fields, cfg=None):
    return OmegaConf.structured(fields(**cfg))
