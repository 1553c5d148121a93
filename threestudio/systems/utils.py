"""Optimisers and schedulers from their config."""

from operator import attrgetter
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch.optim import lr_scheduler

from threestudio.errors import ConfigError
from threestudio.registry import did_you_mean


def get_parameters(model: torch.nn.Module, name: str) -> list[torch.nn.Parameter]:
    """The parameters of a member of a model; the member may be a parameter itself.

    Raises:
        ConfigError: If the model has no such member.
    """
    try:
        member = attrgetter(name)(model)
    except AttributeError as cause:
        near = did_you_mean(name, (key for key, _ in [*model.named_parameters(), *model.named_modules()] if key))
        what = f"system.optimizer.params.{name} names no member of {type(model).__name__}"
        expected, fix = "the path of a parameter or module", f"did you mean {near}?" if near else "check the name"
        raise ConfigError(what=what, expected=expected, fix=fix) from cause
    return list(member.parameters()) if isinstance(member, torch.nn.Module) else [member]


def parse_optimizer(config: DictConfig, model: torch.nn.Module) -> torch.optim.Optimizer:
    """An optimiser of ``torch.optim``: ``name``, its ``args``, and per member ``params: {member: {lr: ...}}``.

    Raises:
        ConfigError: If torch has no such optimiser or it does not take the arguments.
    """
    params = config.get("params")
    if params:
        groups: Any = [
            {"params": get_parameters(model, name), "name": name, **plain_keys(args)} for name, args in params.items()
        ]
    else:
        groups = [param for param in model.parameters() if param.requires_grad]
    return _build(torch.optim, torch.optim.Optimizer, config, "system.optimizer", groups)


def parse_scheduler(config: DictConfig, optimizer: torch.optim.Optimizer) -> dict:
    """A learning-rate scheduler as Lightning takes it: ``name``, ``args``, ``interval`` (``epoch`` or ``step``)."""
    interval = config.get("interval", "epoch")
    if interval not in ("epoch", "step"):
        raise ConfigError(
            what=f"system.scheduler.interval is {interval!r}", expected="epoch or step", fix="set one of them"
        )
    scheduler = _build(lr_scheduler, lr_scheduler.LRScheduler, config, "system.scheduler", optimizer)
    return {"scheduler": scheduler, "interval": interval}


def plain_keys(args: Any) -> dict:
    """A group of keys, or nothing, as a dict of plain values."""
    keys: Any = OmegaConf.to_container(args) if OmegaConf.is_config(args) else args
    return dict(keys or {})


def _build(module: Any, base: type, config: DictConfig, path: str, *args: Any) -> Any:
    names = [
        key
        for key, held in vars(module).items()
        if isinstance(held, type) and issubclass(held, base) and held is not base
    ]
    if config.name not in names:
        near = did_you_mean(config.name, names)
        expected, fix = f"one of: {', '.join(names)}", f"did you mean {near}?" if near else "use one of these names"
        raise ConfigError(what=f"{path}.name is {config.name!r}", expected=expected, fix=fix)
    try:
        return getattr(module, config.name)(*args, **plain_keys(config.get("args")))
    except (TypeError, ValueError) as cause:
        what = f"{path}.args do not suit {config.name}: {cause}"
        raise ConfigError(what=what, expected=f"arguments of torch's {config.name}", fix=f"mend {path}.args") from cause
