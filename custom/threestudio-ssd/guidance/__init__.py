"""Network, score and timestep to a loss."""

from typing import Any, TypeVar

import threestudio

from ..errors import ConfigError
from .contrast import CDSConfig, ContrastTerm
from .edit_guidance import EditGuidance, GuidanceOutput
from .edit_kind import EditKind, edit_kind
from .prompts import EditPrompts
from .score_options import build_score
from .timesteps import SCHEDULES, timestep_at
from .variational import LoraNetworkConfig, VariationalTerm

Kind = TypeVar("Kind")


def guidance_class(name: str) -> type[EditGuidance]:
    """The class that ``system.guidance_type`` names.

    Raises:
        ConfigError: If what is registered under the name is no ``EditGuidance``, or nothing is.
    """
    return _class_of("guidance_type", name, EditGuidance, "ssd-guidance")


def prompts_class(name: str) -> type[EditPrompts]:
    """The class that ``system.prompt_processor_type`` names; raises as ``guidance_class`` does."""
    return _class_of("prompt_processor_type", name, EditPrompts, "ssd-prompt-processor")


def _class_of(key: str, name: str, kind: type[Kind], default: str) -> type[Kind]:
    named: Any = threestudio.find(name)
    if not (isinstance(named, type) and issubclass(named, kind)):
        what = f"system.{key} is {name}, a {getattr(named, '__name__', type(named).__name__)}"
        expected = f"a subclass of {kind.__name__}"
        raise ConfigError(what=what, expected=expected, fix=f"set system.{key}={default}")
    return named
