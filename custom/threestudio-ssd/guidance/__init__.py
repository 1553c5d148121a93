"""Network, score and timestep to a loss."""

from .contrast import CDSConfig, ContrastTerm
from .prompts import SSDPromptProcessor
from .score_options import build_score
from .ssd_guidance import GuidanceOutput, SSDGuidance
from .timesteps import SCHEDULES, timestep_at
from .variational import LoraNetworkConfig, VariationalTerm

__all__ = [
    "SCHEDULES",
    "CDSConfig",
    "ContrastTerm",
    "GuidanceOutput",
    "LoraNetworkConfig",
    "SSDGuidance",
    "SSDPromptProcessor",
    "VariationalTerm",
    "build_score",
    "timestep_at",
]
