"""A score from the few words of a config: its name, a preset, and any of its own fields."""

from collections.abc import Mapping
from typing import Any

from ..named import build_named
from ..scores import SCORES, SSD, Score, ssd_paper

PRESETS = {"ssd-code": SSD(), "ssd-paper": ssd_paper(), "ssd-small": SSD(enhance_weight=2.0)}
"""Complete scores by name: the released code's effective weights, the weights of the paper's equations, and little
enhancement, for small models."""


def build_score(options: Mapping[str, Any], key: str = "system.guidance.score") -> Score:
    """The score that ``{name: ..., field: value, ...}`` describes.

    Args:
        options: ``name`` is a key of ``SCORES`` or of ``PRESETS``; the rest are fields of that score.
        key: Where the options stand in the config, for messages.

    Raises:
        ConfigError: For an unknown name, an unknown field, or a value of the wrong type.
    """
    return build_named(options, SCORES, key=key, kind="score", default="ssd", presets=PRESETS)
