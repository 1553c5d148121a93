"""The keys that edits share, and what is loaded by them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from ..diffusion import PromptEmbeds
from ..errors import ConfigError, check_values
from ..guidance import EditGuidance, EditPrompts, guidance_class, prompts_class
from ..host import SystemConfig
from .edit import values_of

CANNOT_CHANGE_EDITS = frozenset({
    # what is drawn, checked or measured beside the edit
    "system.preview_every", "system.clip_model", "data.video_frames", "data.check_capture",
    # where a model is looked for; which one it is decides the result
    "system.guidance.offline", "system.editing.offline",
})  # fmt: skip
"""Dotted keys that decide how an edit is looked at, never its result."""


@dataclass
class EditConfig(SystemConfig):
    """Keys of every edit."""

    num_steps: int = 1500
    """Optimisation steps, >= 1."""
    seed: int = 0
    """Decides views, timesteps and noise."""


@dataclass
class DistillationConfig(EditConfig):
    """Keys of every edit by a diffusion model's score."""

    guidance_type: str = "ssd-guidance"
    """Registered guidance, an ``EditGuidance``."""
    guidance: dict = field(default_factory=dict)
    """Its keys."""
    prompt_processor_type: str = "ssd-prompt-processor"
    """Registered prompt processor, an ``EditPrompts``."""
    prompt_processor: dict = field(default_factory=dict)
    """Its keys."""
    strength: float = 1.0
    """How strong the edit is, from 0, hardly anything, to 2; 1: as the other keys say (``strength``)."""
    clip_model: str = "auto"
    """CLIP of the report, see docs/metrics.md; auto: ViT-L/14, but tiny-clip beside an embedded model."""


def load_guidance(cfg: Any) -> tuple[EditPrompts, EditGuidance, dict[str, PromptEmbeds]]:
    """Load the model that ``DistillationConfig`` names and embed the prompts; the text encoder is then freed.

    Args:
        cfg: The keys, checked against their dataclass.

    Returns:
        The prompts, the guidance, and the embeddings that its score reads.

    Raises:
        ConfigError: If a prompt is missing or the model cannot be used.
    """
    prompts = prompts_class(cfg.prompt_processor_type)(cfg.prompt_processor)
    kind = guidance_class(cfg.guidance_type)
    prompts.check_source(kind.prompts_of_score(cfg.guidance), [prompts.cfg.source_prompt])
    guidance = kind(cfg.guidance)
    return prompts, guidance, prompts(guidance.backbone, guidance.prompt_names)


def check_num_steps(cfg: Any, keys: type) -> None:
    """Refuse an edit of no steps; the message names the word that stands at the top of the configs.

    Raises:
        ConfigError: If there are none.
    """
    usual = next(field.default for field in fields(keys) if field.name == "num_steps")
    if cfg.num_steps < 1:
        raise ConfigError(what=f"steps is {cfg.num_steps}", expected="at least 1", fix=f"set steps={usual}")


def check_not_negative(prefix: str, cfg: Any, keys: type, names: Sequence[str] = ()) -> None:
    """Refuse numbers and schedules that are anywhere below 0.

    Args:
        prefix: Where the keys stand, such as "system".
        cfg: The keys.
        keys: Their dataclass.
        names: Which of them; by default all.

    Raises:
        ConfigError: For the first that is.
    """
    names = names or [field.name for field in fields(keys)]
    values = {name: values_of(cfg[name]) for name in names}
    rules = {name: (all(0 <= value < math.inf for value in values[name]), "at least 0, and finite") for name in names}
    check_values(prefix, cfg, keys, rules)


def check_background(cfg: Any) -> None:
    """Refuse a background that is no colour.

    Args:
        cfg: Has ``background``, at ``system.background``.

    Raises:
        ConfigError: If it is none.
    """
    is_color = len(cfg.background) == 3 and all(0 <= value <= 1 for value in cfg.background)
    if not is_color:
        what = f"system.background is {list(cfg.background)}"
        raise ConfigError(what=what, expected="red, green and blue, each 0 to 1", fix="set system.background=[0,0,0]")


def check_betas(cfg: Any) -> None:
    """Refuse decays of Adam's moments that are none.

    Args:
        cfg: Has ``adam_betas``, at ``system.adam_betas``.

    Raises:
        ConfigError: If they are none.
    """
    if not (len(cfg.adam_betas) == 2 and all(0 <= value < 1 for value in cfg.adam_betas)):
        what = f"system.adam_betas is {list(cfg.adam_betas)}"
        expected, fix = "two numbers from 0 to below 1", "set system.adam_betas=[0.9,0.999]"
        raise ConfigError(what=what, expected=expected, fix=fix)
