"""What is added to the prompt of a view: which side of the new object it shows (Poole et al. 2022, section 3.1)."""

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


@dataclass
class ViewWordsConfig:
    """Keys of the words for the side that a view shows; views are painted one by one, and these keep them together."""

    sides: list[Any] = field(default_factory=list)
    """[{of: [car, house], say: [seen from the front, seen from the left, ...]}, ...]: for target prompts with one of
    these words, or without ``of`` for any, the phrases of the sides, evenly spread around, the front first, then
    counter-clockwise as seen from above. The first entry that fits counts; where none does nothing is added."""
    above: str = ""
    """Follows the phrase, after a space or its own comma, where the camera looks down by ``above_deg`` or more."""
    above_deg: float = 60.0
    """Elevation of the camera, degrees."""
    front_deg: float = 0.0
    """Azimuth that the new object's front looks to, degrees, counter-clockwise from +x where up is +z."""


def check_view_words(cfg: Any) -> None:
    """Refuse sides that are no phrases.

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
    """Everything that ``view_words`` may give for a target prompt."""
    phrases = phrases_of(cfg, target)
    return list(dict.fromkeys(with_words(each, end) for each in phrases for end in ("", cfg.above)))


def view_words(
    cfg: Any, target: str, cameras: Cameras, center: Float[Tensor, "3"], up: Float[Tensor, "3"]
) -> list[str]:
    """What to add to the prompt of each view.

    Args:
        cfg: ``ViewWordsConfig``.
        target: The target prompt, which names an object with phrases.
        cameras: The views.
        center: The middle of the object, world units.
        up: Of the scene, a unit vector.
    """
    phrases = phrases_of(cfg, target)
    frame = torch.stack(orbit_frame(up.cpu())).float()
    east, north, high = ((cameras.centers.cpu() - center.cpu()) @ frame.T).unbind(dim=1)
    sectors = (torch.atan2(north, east).rad2deg() - cfg.front_deg) / 360 * len(phrases)
    places = sectors.round().long() % len(phrases)
    is_above = torch.atan2(high, torch.hypot(east, north)).rad2deg() >= cfg.above_deg
    ends = [cfg.above if above else "" for above in is_above.tolist()]
    return [with_words(phrases[place], end) for place, end in zip(places.tolist(), ends, strict=True)]
