"""The base of every guidance: a frozen model turned into a loss."""

from dataclasses import dataclass
from typing import Any

from threestudio.utils.base import BaseObject


class BaseGuidance(BaseObject):
    """Judges renders: a subclass loads its model in ``configure`` and is called with renders and prompts."""

    @dataclass
    class Config(BaseObject.Config):
        """No keys of its own."""

    cfg: Config

    def __call__(self, *args: Any, **kwargs: Any) -> dict:
        """Judge a batch of renders.

        Returns:
            Losses by name (``loss_...``) and values to log.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how to judge renders")
