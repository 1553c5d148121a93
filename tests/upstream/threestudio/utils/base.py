"""What follows the steps, and what has keys."""

from dataclasses import dataclass

from torch import nn

from threestudio.utils.config import parse_structured
from threestudio.utils.misc import get_device


class Configurable:
    @dataclass
    class Config:
        pass

    def __init__(self, cfg=None):
        super().__init__()
        self.cfg = parse_structured(self.Config, cfg)


class Updateable:
    def _members(self):
        for name in self.__dir__():
            if not name.startswith("_"):
                try:
                    member = getattr(self, name)
                except Exception:  # noqa: BLE001  # a property that cannot be asked yet
                    continue
                if isinstance(member, Updateable):
                    yield member

    def do_update_step(self, epoch, global_step, on_load_weights=False):
        for member in self._members():
            member.do_update_step(epoch, global_step, on_load_weights=on_load_weights)
        self.update_step(epoch, global_step, on_load_weights=on_load_weights)

    def do_update_step_end(self, epoch, global_step):
        for member in self._members():
            member.do_update_step_end(epoch, global_step)
        self.update_step_end(epoch, global_step)

    def update_step(self, epoch, global_step, on_load_weights=False):
        pass

    def update_step_end(self, epoch, global_step):
        pass


def update_if_possible(module, epoch, global_step):
    if isinstance(module, Updateable):
        module.do_update_step(epoch, global_step)


def update_end_if_possible(module, epoch, global_step):
    if isinstance(module, Updateable):
        module.do_update_step_end(epoch, global_step)


class BaseObject(Updateable):
    @dataclass
    class Config:
        pass

    def __init__(self, cfg=None, *args, **kwargs):
        super().__init__()
        self.cfg = parse_structured(self.Config, cfg)
        self.device = get_device()
        self.configure(*args, **kwargs)

    def configure(self, *args, **kwargs):
        pass


class BaseModule(nn.Module, Updateable):
    @dataclass
    class Config:
        weights: str | None = None

    def __init__(self, cfg=None, *args, **kwargs):
        super().__init__()
        self.cfg = parse_structured(self.Config, cfg)
        self.device = get_device()
        self.configure(*args, **kwargs)

    def configure(self, *args, **kwargs):
        pass
