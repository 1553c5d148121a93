"""Captions of toy scenes."""

import re

import numpy as np

from .vocabulary import ATTRIBUTES, Attributes

PREFIXES = ("a photo of", "a picture of", "a render of", "")
SYNONYMS = {"ball": ("ball", "sphere"), "house": ("house", "cottage"), "donut": ("donut", "torus")}
TIME_PHRASES = {"day": ("by day", "in daylight"), "night": ("at night",), "sunset": ("at sunset",)}
MAX_TOKENS = 20


def describe(attributes: Attributes, prefix: str = "a photo of") -> str:
    """The full caption of a scene; plain and by day go without saying."""
    pattern = "" if attributes.pattern == "plain" else attributes.pattern
    time = "" if attributes.time == "day" else TIME_PHRASES[attributes.time][0]
    return _sentence(prefix, attributes.color, pattern, attributes.object, f"on {attributes.ground}", time)


def random_caption(attributes: Attributes, rng: np.random.Generator) -> str:
    """A caption that may leave things out: colour kept 96 %, pattern 95 % (plain said 30 %), ground 85 %, time 90 %."""
    keep = rng.uniform(size=5)
    color = attributes.color if keep[0] < 0.96 else ""
    said = 0.30 if attributes.pattern == "plain" else 0.95
    pattern = attributes.pattern if keep[1] < said else ""
    names = SYNONYMS.get(attributes.object, (attributes.object,))
    name = names[0] if keep[2] < 0.75 else names[-1]
    ground = f"on {attributes.ground}" if keep[3] < 0.85 else ""
    said = 0.30 if attributes.time == "day" else 0.90
    times = TIME_PHRASES[attributes.time]
    time = times[rng.integers(len(times))] if keep[4] < said else ""
    return _sentence(PREFIXES[rng.integers(len(PREFIXES))], color, pattern, name, ground, time)


def parse_caption(caption: str) -> dict[str, str]:
    """Attribute values that a caption names; plain and day are not inferred from silence."""
    words = re.findall(r"[a-z]+", caption.lower())
    back: dict[str, str] = {synonym: name for name, synonyms in SYNONYMS.items() for synonym in synonyms}
    back["daylight"] = "day"
    words = [back[word] if word in back else word for word in words]
    return {name: word for name, values in ATTRIBUTES.items() for word in words if word in values}


def _sentence(prefix: str, *words: str) -> str:
    article = f"{prefix} a" if prefix else "a"
    first = next(word for word in words if word)
    if first[0] in "aeiou":
        article += "n"
    return " ".join([article, *(word for word in words if word)])
