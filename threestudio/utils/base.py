"""What configurable things have in common: a strict ``Config``, ``configure`` and ``update_step``."""

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig
from torch import nn

from threestudio.utils.config import parse_structured
from threestudio.utils.misc import get_device, load_module_weights


class Configurable:
    """Something with a config and nothing else."""

    @dataclass
    class Config:
        """No keys of its own."""

    cfg: Any

    def __init__(self, cfg: dict | DictConfig | None = None) -> None:
        super().__init__()
        self.cfg = parse_structured(self.Config, cfg)


class Updateable:
    """Something that follows the step of the run, together with its public members that do so too."""

    def do_update_step(self, epoch: int, global_step: int, on_load_weights: bool = False) -> None:
        """Call ``update_step`` on every member that follows the step, then on this object."""
        for member in self._updateable_members():
            member.do_update_step(epoch, global_step, on_load_weights=on_load_weights)
        self.update_step(epoch, global_step, on_load_weights=on_load_weights)

    def do_update_step_end(self, epoch: int, global_step: int) -> None:
        """Call ``update_step_end`` on every member that follows the step, then on this object."""
        for member in self._updateable_members():
            member.do_update_step_end(epoch, global_step)
        self.update_step_end(epoch, global_step)

    def update_step(self, epoch: int, global_step: int, on_load_weights: bool = False) -> None:
        """Override to follow the run; called before each step.

        Args:
            epoch: Current epoch.
            global_step: Current optimisation step, from the trainer.
            on_load_weights: True when called because weights were loaded; devices may then differ.
        """

    def update_step_end(self, epoch: int, global_step: int) -> None:
        """Override to follow the run; called after each step."""

    def _updateable_members(self) -> list["Updateable"]:
        """Public attributes, and sub-modules of a torch module, that follow the step; each once."""
        named = dict(vars(self))
        named.update(vars(self).get("_modules") or {})
        members = {id(m): m for name, m in named.items() if isinstance(m, Updateable) and name[0] != "_"}
        return list(members.values())


def update_if_possible(module: Any, epoch: int, global_step: int) -> None:
    """``do_update_step`` on anything; does nothing if the thing does not follow steps."""
    if isinstance(module, Updateable):
        module.do_update_step(epoch, global_step)


def update_end_if_possible(module: Any, epoch: int, global_step: int) -> None:
    """``do_update_step_end`` on anything; does nothing if the thing does not follow steps."""
    if isinstance(module, Updateable):
        module.do_update_step_end(epoch, global_step)


class _Configured(Updateable):
    """Config, device and ``configure``, for objects and modules alike."""

    Config: type
    cfg: Any

    def _set_up(self, cfg: dict | DictConfig | None, *args: Any, **kwargs: Any) -> None:
        self.cfg = parse_structured(self.Config, cfg)
        self.device = get_device()
        self.configure(*args, **kwargs)

    def configure(self, *args: Any, **kwargs: Any) -> None:
        """Override to build what the config says."""


class BaseObject(_Configured):
    """A configurable thing without parameters: a guidance, a prompt processor, an exporter.

    Args:
        cfg: Keys of ``Config``; unknown ones raise ``ConfigError``.
        *args: Handed to ``configure``.
        **kwargs: Handed to ``configure``.
    """

    @dataclass
    class Config:
        """No keys of its own."""

    def __init__(self, cfg: dict | DictConfig | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self._set_up(cfg, *args, **kwargs)


class BaseModule(nn.Module, _Configured):
    """A configurable thing with parameters; arguments as for ``BaseObject``."""

    @dataclass
    class Config:
        """Keys every module has."""

        weights: str | None = None
        """Load these weights after ``configure``: ``path/to/checkpoint.ckpt:module_name``."""

    def __init__(self, cfg: dict | DictConfig | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self._set_up(cfg, *args, **kwargs)
        if self.cfg.weights is not None:
            path, _, module_name = self.cfg.weights.rpartition(":")
            state, epoch, global_step = load_module_weights(path, module_name=module_name, map_location="cpu")
            self.load_state_dict(state)
            self.do_update_step(epoch, global_step, on_load_weights=True)
