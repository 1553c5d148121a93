"""The base of every exporter: what a system made, as files."""

from dataclasses import dataclass
from typing import Any

from threestudio.utils.base import BaseObject


@dataclass
class ExporterOutput:
    """One file to write: the system calls its own ``save_<save_type>(save_name, **params)``."""

    save_name: str
    save_type: str
    params: dict[str, Any]


class Exporter(BaseObject):
    """Names the files of a result; a subclass is called once, after the last step."""

    def __call__(self, *args: Any, **kwargs: Any) -> list[ExporterOutput]:
        """The files to write."""
        raise NotImplementedError(f"{type(self).__name__} does not say what to write")
