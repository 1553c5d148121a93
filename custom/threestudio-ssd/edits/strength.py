"""How strong an edit is, from 0 to 2: the one place that says what ``strength`` does to weights and rates.

1 leaves every key as it is. Below 1 the rates are multiplied with the strength, so that a run goes a part of the way.
Above 1 rates stay, for more of them only bring a run nearer to where its score rests; instead the score asks for more:
what pulls towards the target is multiplied with the square (``ASKING``). Refits edit their views less or more strongly.
docs/steering.md has what was measured.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..guidance import build_score

MOST = 2.0
NEARLY_NOTHING = 1e-6
"""What a rate or strength of an edit is at least multiplied with: at 0 a run makes its steps, and nobody sees them."""
ASKING = ("cross_prompt_weight", "settle_guidance", "guidance_scale", "target_weight", "text_scale")
"""Fields of scores that say how firmly the target is asked for; the score's others, such as enhancement, stay."""


def check_strength(strength: float) -> None:
    """Refuse a strength out of range.

    Raises:
        ConfigError: If it is.
    """
    if not 0 <= strength <= MOST:
        fix = "set strength=1, which leaves the config as it is"
        raise ConfigError(what=f"strength is {strength:g}", expected=f"from 0 to {MOST:g}", fix=fix)


def at_strength(cfg: Any) -> Any:
    """The keys of an edit by a score as its ``strength`` says: a copy, or at 1 the keys themselves.

    Args:
        cfg: Keys of ``SceneEditConfig`` or ``ImageEditConfig``.

    Raises:
        ConfigError: If the strength is out of range.
    """
    check_strength(cfg.strength)
    if cfg.strength == 1:
        return cfg
    cfg, share = cfg.copy(), max(cfg.strength, NEARLY_NOTHING)
    if cfg.strength > 1:
        cfg.guidance = {**cfg.guidance, "score": stronger_score(cfg.guidance.get("score", {}), cfg.strength)}
        return cfg
    if "learning_rate" in cfg:
        cfg.learning_rate = times(cfg.learning_rate, share)
        return cfg
    has_way = cfg.color_way is not None
    if has_way:
        cfg.color_way = cfg.color_way * share
    for name, rate in cfg.learning_rates.items():
        if name != "sh0" or not has_way:
            cfg.learning_rates[name] = times(rate, share)
    return cfg


def stronger_score(options: Mapping[str, Any], strength: float) -> dict[str, Any]:
    """The options of a score that asks for more, by name and fields, at a strength above 1."""
    fields = dataclasses.asdict(build_score(options))
    return {**options, **{name: fields[name] * strength**2 for name in ASKING if name in fields}}


def times(rate: Any, factor: float) -> Any:
    """A number, or a schedule all of whose values are multiplied."""
    if isinstance(rate, int | float):
        return rate * factor
    first = 0 if len(rate) == 3 else 1
    is_value = [place == first or (place > first and (place - first) % 2 == 1) for place in range(len(rate))]
    return [value * factor if is_one else value for value, is_one in zip(rate, is_value, strict=True)]


def strength_of_round(noise: float, strength: float) -> float:
    """How far views go towards noise in a round of a refit.

    Args:
        noise: The config's, in (0, 1].
        strength: Of the edit: below 1 the way shrinks in proportion, above 1 what is left of the views does.
    """
    check_strength(strength)
    if strength <= 1:
        return noise * max(strength, NEARLY_NOTHING)
    return 1 - (1 - noise) / strength
