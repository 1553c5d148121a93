"""What kind of edit two prompts ask for, as far as their words say."""

import re
from typing import Literal

from PIL.ImageColor import colormap

EditKind = Literal["recolor", "material", "relight", "other"]
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
MATERIAL_WORDS = frozenset({
    "asphalt", "bamboo", "bark", "brass", "brick", "bricks", "carpet", "ceramic", "chocolate", "chrome", "clay",
    "cloth", "cobblestone", "cobblestones", "concrete", "denim", "desert", "dirt", "earth", "fabric", "fleece", "fur",
    "glass", "gold", "granite", "grass", "grassy", "gravel", "ice", "icy", "iron", "ivory", "lava", "lawn", "leather",
    "leaves", "marble", "meadow", "metal", "moss", "mossy", "mud", "muddy", "paper", "pavement", "pebbles", "plaster",
    "plastic", "porcelain", "rock", "rocks", "rocky", "rubber", "rust", "rusty", "sand", "sandy", "sandstone", "silk",
    "silver", "slate", "snow", "snowy", "soil", "steel", "stone", "straw", "tarmac", "tiles", "velvet", "water", "wax",
    "wood", "wooden", "wool",
})  # fmt: skip
"""What grounds and surfaces are made of."""
FILLERS = frozenset({
    "a", "all", "an", "and", "are", "at", "be", "by", "color", "colored", "colour", "coloured", "during", "dye", "in",
    "into", "is", "it", "its", "make", "of", "paint", "painted", "recolor", "recolour", "the", "their", "them", "to",
    "turn", "with",
})  # fmt: skip
"""Words that say nothing of the scene; an instruction needs some (``make it blue``)."""


def edit_kind(source_prompt: str, target_prompt: str) -> EditKind:
    """What differs: recolor, colours alone; material, what things are made of; relight, the light; else other.

    Args:
        source_prompt: What is there; empty before an instruction.
        target_prompt: What should be there, or an instruction.
    """
    source, target = (set(re.findall(r"[a-z]+", prompt.lower())) - FILLERS for prompt in (source_prompt, target_prompt))
    new, gone = target - source, source - target
    if new & COLOR_WORDS and (new | gone) <= COLOR_WORDS | SHADE_WORDS:
        return "recolor"
    is_of_materials = (new | gone) <= MATERIAL_WORDS | COLOR_WORDS | SHADE_WORDS
    if new & MATERIAL_WORDS and (gone & MATERIAL_WORDS or not source_prompt) and is_of_materials:
        return "material"
    if (new | gone) & LIGHT_WORDS and (new | gone) <= LIGHT_WORDS | SHADE_WORDS:
        return "relight"
    return "other"
