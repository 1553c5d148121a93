"""Whether two prompts differ in colours alone: then light and shade can be kept."""

import re

from PIL.ImageColor import colormap

COLOR_WORDS = frozenset(colormap) | {
    "amber", "blond", "blonde", "bronze", "burgundy", "charcoal", "copper", "cream", "ebony", "emerald", "golden",
    "jade", "lilac", "mauve", "mustard", "ochre", "peach", "rose", "ruby", "sapphire", "scarlet", "sepia", "silvery",
    "vermilion",
}  # fmt: skip
"""CSS's colours, and names of paints and metals that are used as colours."""
SHADE_WORDS = frozenset({"bright", "brighter", "dark", "darker", "deep", "light", "lighter", "pale", "vivid"})
FILLERS = frozenset({
    "a", "all", "an", "and", "are", "be", "color", "colored", "colour", "coloured", "dye", "in", "into", "is", "it",
    "its", "make", "of", "paint", "painted", "recolor", "recolour", "the", "their", "them", "to", "turn", "with",
})  # fmt: skip
"""Words that an instruction needs to name a colour; ``make it blue`` names nothing else."""


def is_recolouring(source_prompt: str, target_prompt: str) -> bool:
    """Whether the target asks for other colours and for nothing else.

    Args:
        source_prompt: What is there; empty before an instruction.
        target_prompt: What should be there, or an instruction (``make it blue``).
    """
    source, target = (re.findall(r"[a-z]+", prompt.lower()) for prompt in (source_prompt, target_prompt))
    new = {word for word in target if word not in source} - FILLERS
    gone = {word for word in source if word not in target} - FILLERS
    return bool(new & COLOR_WORDS) and (new | gone) <= COLOR_WORDS | SHADE_WORDS
