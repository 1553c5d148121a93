"""What is added to the prompt of a view: where the new object is seen from (Poole et al. 2022, section 3.1)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..cameras import Cameras
from ..cameras.orbit import orbit_frame
from ..editors import with_words
from ..errors import ConfigError

EXAMPLE = '{say: [", front view", ", side view", ", back view", ", side view"]}'
HEIGHT_EXAMPLE = '{from_deg: 60, say: ", from above"}'


@dataclass
class ViewWordsConfig:
    """Keys of the words for where a view is from; views are painted one by one, and these keep them together."""

    heights: list[Any] = field(default_factory=list)
    """[{from_deg: 60, say: ", from above"}, ...]: what follows the prompt where the camera looks down by ``from_deg``
    or more; the last entry that fits counts. After a space, or its own comma."""
    sides: list[Any] = field(default_factory=list)
    """[{of: [car, house], say: [from the front, from the left, ...]}, ...]: for target prompts with one of these words,
    or without ``of`` for any, the phrases of the sides, evenly spread around, the front first, then counter-clockwise
    as seen from above; they follow ``heights``. The first entry that fits counts; where none does nothing is added."""
    front_deg: float = 0.0
    """Azimuth that the new object's front looks to, degrees, counter-clockwise from +x where up is +z."""


def check_view_words(cfg: Any) -> None:
    """Refuse sides and heights that are no phrases.

    Raises:
        ConfigError: For the first.
    """
    for place, entry in enumerate(cfg.sides):
        is_right = isinstance(entry, Mapping) and entry.keys() <= {"of", "say"} and _are_texts(entry.get("say"))
        if not (is_right and ("of" not in entry or _are_texts(entry["of"]))):
            raise ConfigError(
                what=f"system.view_words.sides[{place}] is {entry}",
                expected="{of: words of the target prompt, say: phrases, the front first}, each a list",
                fix=f"write {EXAMPLE}, or leave it out",
            )
    for place, entry in enumerate(cfg.heights):
        is_right = isinstance(entry, Mapping) and entry.keys() == {"from_deg", "say"}
        if not (is_right and _is_angle(entry["from_deg"]) and isinstance(entry["say"], str)):
            raise ConfigError(
                what=f"system.view_words.heights[{place}] is {entry}",
                expected="{from_deg: an elevation of cameras, -90 to 90, say: a phrase}",
                fix=f"write {HEIGHT_EXAMPLE}, or leave it out",
            )
    angles = [entry["from_deg"] for entry in cfg.heights]
    if angles != sorted(angles):
        raise ConfigError(
            what=f"system.view_words.heights begin at {angles} degrees",
            expected="each higher than the one before",
            fix="put them in the order of from_deg",
        )


def _is_angle(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -90 <= value <= 90


def _are_texts(values: Any) -> bool:
    """Whether it is a list of texts, and not an empty one."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        return False
    return len(values) > 0 and all(isinstance(each, str) for each in values)


def phrases_of(cfg: Any, target: str) -> list[str]:
    """The phrases for the object that a prompt names; none where there is nothing to say.

    Args:
        cfg: ``ViewWordsConfig``.
        target: The target prompt.
    """
    words = set(re.findall(r"[\w-]+", target.lower()))
    return next(
        (list(each["say"]) for each in cfg.sides if "of" not in each or words & {word.lower() for word in each["of"]}),
        [],
    )


def all_view_words(cfg: Any, target: str) -> list[str]:
    """Everything that ``view_words`` may give for a target prompt; nothing where there is nothing to say."""
    heights, sides = ["", *(entry["say"] for entry in cfg.heights)], phrases_of(cfg, target) or [""]
    return list(filter(None, dict.fromkeys(with_words(height, side) for height in heights for side in sides)))


def view_words(
    cfg: Any, target: str, cameras: Cameras, center: Float[Tensor, "3"], up: Float[Tensor, "3"]
) -> list[str]:
    """What to add to the prompt of each view; "" where there is nothing to say.

    Args:
        cfg: ``ViewWordsConfig``.
        target: The target prompt.
        cameras: The views.
        center: The middle of the object, world units.
        up: Of the scene, a unit vector.
    """
    phrases = phrases_of(cfg, target) or [""]
    frame = torch.stack(orbit_frame(up.cpu())).float()
    east, north, high = ((cameras.centers.cpu() - center.cpu()) @ frame.T).unbind(dim=1)
    sectors = (torch.atan2(north, east).rad2deg() - cfg.front_deg) / 360 * len(phrases)
    sides = [phrases[place] for place in (sectors.round().long() % len(phrases)).tolist()]
    elevations_deg = torch.atan2(high, torch.hypot(east, north)).rad2deg().tolist()
    return [with_words(_height(cfg, deg), side) for deg, side in zip(elevations_deg, sides, strict=True)]


def _height(cfg: Any, elevation_deg: float) -> str:
    return next((entry["say"] for entry in reversed(cfg.heights) if elevation_deg >= entry["from_deg"]), "")
