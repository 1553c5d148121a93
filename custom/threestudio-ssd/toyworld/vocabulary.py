"""The words of the toy world and what they look like: objects, colours, patterns, grounds, times of day."""

from collections.abc import Iterable
from typing import NamedTuple, SupportsInt

OBJECTS = ("ball", "cube", "cone", "cylinder", "donut", "mushroom", "snowman", "tree", "house", "car")
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
PATTERNS = ("plain", "striped", "checkered", "dotted")
GROUNDS = ("grass", "sand", "snow", "wood")
TIMES = ("day", "night", "sunset")

ATTRIBUTES = {"object": OBJECTS, "color": COLORS, "pattern": PATTERNS, "ground": GROUNDS, "time": TIMES}
"""Attribute name -> its values, in the order used by labels."""

COLOR_RGB = {
    "red": (0.86, 0.07, 0.07),
    "orange": (1.00, 0.45, 0.02),
    "yellow": (0.98, 0.86, 0.10),
    "green": (0.08, 0.60, 0.14),
    "blue": (0.08, 0.24, 0.92),
    "purple": (0.45, 0.06, 0.66),
    "pink": (1.00, 0.60, 0.78),
    "white": (0.95, 0.95, 0.95),
}
"""Albedo of each object colour, RGB in [0, 1]."""

LIGHT_ACCENT = (0.95, 0.94, 0.90)
DARK_ACCENT = (0.13, 0.13, 0.17)
ACCENT_RGB = {name: DARK_ACCENT if name in ("yellow", "pink", "white") else LIGHT_ACCENT for name in COLORS}
"""Second colour of a pattern: dark on bright colours, light on deep ones."""

GROUND_RGB = {
    "grass": ((0.24, 0.52, 0.13), (0.33, 0.60, 0.19)),
    "sand": ((0.84, 0.71, 0.46), (0.92, 0.80, 0.57)),
    "snow": ((0.88, 0.91, 0.95), (0.97, 0.98, 1.00)),
    "wood": ((0.38, 0.20, 0.10), (0.52, 0.29, 0.15)),
}
"""Darkest and brightest albedo of each ground, RGB in [0, 1]."""


class Light(NamedTuple):
    """One time of day: colour of the sky, and the colour that multiplies every lit surface."""

    sky_rgb: tuple[float, float, float]
    light_rgb: tuple[float, float, float]


TIME_LIGHT = {
    "day": Light((0.53, 0.77, 0.97), (1.00, 1.00, 1.00)),
    "night": Light((0.05, 0.07, 0.19), (0.50, 0.52, 0.66)),
    "sunset": Light((0.97, 0.56, 0.36), (1.00, 0.84, 0.70)),
}


class Attributes(NamedTuple):
    """What a toy scene shows; every field is a word of :data:`ATTRIBUTES`."""

    object: str = "ball"
    color: str = "red"
    pattern: str = "plain"
    ground: str = "grass"
    time: str = "day"

    @classmethod
    def from_words(cls, words: str) -> "Attributes":
        """The scene of five words: colour, pattern, object, ground, time of day."""
        color, pattern, thing, ground, time = words.split()
        return cls(thing, color, pattern, ground, time)

    def labels(self) -> tuple[int, ...]:
        """Index of each word in its list, in the order object, color, pattern, ground, time."""
        return tuple(ATTRIBUTES[name].index(getattr(self, name)) for name in ATTRIBUTES)

    @classmethod
    def from_labels(cls, labels: Iterable[SupportsInt]) -> "Attributes":
        """Inverse of :meth:`labels`."""
        return cls(*(words[int(label)] for words, label in zip(ATTRIBUTES.values(), labels, strict=True)))
