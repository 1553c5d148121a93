"""What kind of edit two prompts ask for, as far as their words say."""

import re
from typing import Literal

from PIL.ImageColor import colormap

EditKind = Literal["recolor", "relight", "other"]
COLOR_WORDS = frozenset(colormap) | {
    "amber", "blond", "blonde", "bronze", "burgundy", "charcoal", "copper", "cream", "ebony", "emerald", "golden",
    "jade", "lilac", "mauve", "mustard", "ochre", "peach", "rose", "ruby", "sapphire", "scarlet", "sepia", "silvery",
    "vermilion",
}  # fmt: skip
"""CSS's colours, and names of paints and metals that are used as colours."""
SHADE_WORDS = frozenset({"bright", "brighter", "dark", "darker", "deep", "light", "lighter", "pale", "vivid"})
LIGHT_WORDS = frozenset({
    "afternoon", "candlelight", "dawn", "day", "daylight", "daytime", "dusk", "evening", "midday", "midnight",
    "moonlight", "moonlit", "morning", "night", "nighttime", "noon", "sunlight", "sunlit", "sunny", "sunrise", "sunset",
    "twilight",
})  # fmt: skip
FILLERS = frozenset({
    "a", "all", "an", "and", "are", "at", "be", "by", "color", "colored", "colour", "coloured", "during", "dye", "in",
    "into", "is", "it", "its", "make", "of", "paint", "painted", "recolor", "recolour", "the", "their", "them", "to",
    "turn", "with",
})  # fmt: skip
"""Words that say nothing of the scene; an instruction needs some (``make it blue``)."""


def edit_kind(source_prompt: str, target_prompt: str) -> EditKind:
    """recolor where colours alone differ, relight where the time of day or the light does, else other.

    Args:
        source_prompt: What is there; empty before an instruction.
        target_prompt: What should be there, or an instruction.
    """
    source, target = (set(re.findall(r"[a-z]+", prompt.lower())) - FILLERS for prompt in (source_prompt, target_prompt))
    new, gone = target - source, source - target
    if new & COLOR_WORDS and (new | gone) <= COLOR_WORDS | SHADE_WORDS:
        return "recolor"
    if (new | gone) & LIGHT_WORDS and (new | gone) <= LIGHT_WORDS | SHADE_WORDS:
        return "relight"
    return "other"
