"""Captions of toy scenes."""

import re

import numpy as np

from .vocabulary import ATTRIBUTES, Attributes

PREFIXES = ("a photo of", "a picture of", "a render of", "")
FRAMINGS = ("", "closeup", "panorama", "snapshot")
"""How an image frames its object: near the middle at about half the height, larger, smaller, or else off the middle."""
CLOSE_SHARE, FAR_SHARE, LEAST_OFFSET = 0.62, 0.38, 0.25
"""A closeup has an object of more than the first share of the height, a panorama of less than the second; a snapshot
has it further from the middle than this, where 1 is the distance to an edge."""
SYNONYMS = {"ball": ("ball", "sphere"), "house": ("house", "cottage"), "donut": ("donut", "torus")}
SIDES = (
    "the front", "left of front", "the front left", "front of left", "the left", "back of left", "the back left",
    "left of back", "the back", "right of back", "the back right", "back of right", "the right", "front of right",
    "the front right", "right of front",
)  # fmt: skip
"""Sides of an object that has a front, in turn from azimuth 0 to its left; each is 22.5 degrees wide."""
SIDE_DEG = 360 / len(SIDES)
CUBE_SIDES = ("a side", "left of a corner", "a corner", "right of a corner")
"""Those of a cube, which looks as before after a quarter turn; as wide as ``SIDES``."""
OBJECTS_WITH_FRONT = ("house", "car", "snowman")
"""Those whose front can be told: door, bonnet, nose. A cube has sides and corners; the others are round."""
SAME_AFTER_DEG = {"cube": 90, **dict.fromkeys(OBJECTS_WITH_FRONT, 360)}
"""After what turn an object looks as before; the others look the same from all sides."""
HEIGHTS = (("low", -90.0), ("raised", 15.0), ("high", 25.0), ("steeply", 35.0), ("overhead", 45.0))
"""Words for the elevation of a camera, and from how many degrees on each is meant."""
TIME_PHRASES = {"day": ("by day", "in daylight"), "night": ("at night",), "sunset": ("at sunset",)}
MAX_TOKENS = 20
VIEW_SHARE = 0.7
"""Share of the captions of views that say where the view is from."""


def describe(attributes: Attributes, prefix: str = "a photo of") -> str:
    """The full caption of a scene; plain and by day go without saying."""
    pattern = "" if attributes.pattern == "plain" else attributes.pattern
    time = "" if attributes.time == "day" else TIME_PHRASES[attributes.time][0]
    return _sentence(prefix, attributes.color, pattern, attributes.object, f"on {attributes.ground}", time)


def random_caption(attributes: Attributes, rng: np.random.Generator, prefixes: tuple[str, ...] = PREFIXES) -> str:
    """A caption that may leave things out: colour kept 96 %, ground 85 %; plain and by day are said 30 %.

    Other patterns and times are always said, for those two go without saying: a model that learned that one caption in
    ten without a time is of the night draws a night now and then where a day is meant.
    """
    keep = rng.uniform(size=5)
    color = attributes.color if keep[0] < 0.96 else ""
    said = 0.30 if attributes.pattern == "plain" else 1.0
    pattern = attributes.pattern if keep[1] < said else ""
    names = SYNONYMS.get(attributes.object, (attributes.object,))
    name = names[0] if keep[2] < 0.75 else names[-1]
    ground = f"on {attributes.ground}" if keep[3] < 0.85 else ""
    time = _random_time(attributes.time, rng, keep[4])
    return _sentence(prefixes[rng.integers(len(prefixes))], color, pattern, name, ground, time)


def view_words(thing: str, azimuth_deg: float, elevation_deg: float) -> str:
    """Where a view is from, to follow its caption: "seen low from the front left".

    Args:
        thing: The object's word, or that of an object without sides; "" if there is none.
        azimuth_deg: Of the camera about the object, counterclockwise from the object's front: the camera's azimuth
            less the object's yaw.
        elevation_deg: Of the camera above the object.
    """
    height = [word for word, least_deg in HEIGHTS if elevation_deg >= least_deg][-1]
    sides = CUBE_SIDES if thing == "cube" else SIDES if thing in OBJECTS_WITH_FRONT else ()
    place = int((azimuth_deg + SIDE_DEG / 2) // SIDE_DEG)
    return f"seen {height}" + (f" from {sides[place % len(sides)]}" if sides else "")


def describe_empty(ground: str, time: str, prefix: str = "a photo of") -> str:
    """The caption of a scene without an object; by day goes without saying."""
    return " ".join(filter(None, (prefix, ground, "" if time == "day" else TIME_PHRASES[time][0])))


def framing_of(share: float, offset: float) -> str:
    """The word of ``FRAMINGS`` for an object of this share of the image's height, this far from its middle.

    Args:
        share: Height of an object of two units in the image, as part of the image's height.
        offset: Distance of the object's middle from the image's; 1 is the distance from there to an edge.
    """
    if share > CLOSE_SHARE:
        return "closeup"
    if share < FAR_SHARE:
        return "panorama"
    return "snapshot" if offset > LEAST_OFFSET else ""


def framed_prefix(framing: str) -> str:
    """How a caption of this framing begins: "a closeup of", without a framing "a photo of"."""
    return f"a {framing or 'photo'} of"


def random_view_caption(
    attributes: Attributes, has_object: bool, framing: str, azimuth_deg: float, elevation_deg: float,
    rng: np.random.Generator, view_share: float = VIEW_SHARE,
) -> str:  # fmt: skip
    """A caption of one view: ``random_caption``, its framing, and for a share of them where it is seen from.

    A caption that begins with "a photo of" has its object near the middle, at about half the height; one without
    such a beginning may have it anywhere.

    Args:
        attributes: What the scene shows.
        has_object: False: only ground and time of day are there to be named.
        framing: Of ``FRAMINGS``.
        azimuth_deg: As ``view_words`` takes it.
        elevation_deg: As ``view_words`` takes it.
        rng: Random numbers.
        view_share: Share of the captions that say where the view is from.
    """
    if has_object:
        framed = framed_prefix(framing)
        prefixes = (framed, framed, framed, "") if framing else PREFIXES
        caption, thing = random_caption(attributes, rng, prefixes), attributes.object
    else:
        caption, thing = _random_empty_caption(attributes, rng), ""
    views = view_words(thing, azimuth_deg, elevation_deg) if rng.uniform() < view_share else ""
    return " ".join(filter(None, (caption, views)))


def parse_caption(caption: str) -> dict[str, str]:
    """Attribute values that a caption names; plain and day are not inferred from silence."""
    words = re.findall(r"[a-z]+", caption.lower())
    back: dict[str, str] = {synonym: name for name, synonyms in SYNONYMS.items() for synonym in synonyms}
    back["daylight"] = "day"
    words = [back[word] if word in back else word for word in words]
    return {name: word for name, values in ATTRIBUTES.items() for word in words if word in values}


def _random_empty_caption(attributes: Attributes, rng: np.random.Generator) -> str:
    """Half of them say "empty"; by day is said 30 %, other times always."""
    prefix = PREFIXES[rng.integers(len(PREFIXES))]
    empty = "empty" if rng.uniform() < 0.5 else ""
    time = _random_time(attributes.time, rng, rng.uniform())
    return " ".join(filter(None, (prefix, empty, attributes.ground, time)))


def _random_time(time: str, rng: np.random.Generator, keep: float) -> str:
    """A phrase for the time of day; by day "" if ``keep``, drawn from [0, 1), is not below the share that says it."""
    if time == "day" and keep >= 0.30:
        return ""
    return TIME_PHRASES[time][rng.integers(len(TIME_PHRASES[time]))]


def _sentence(prefix: str, *words: str) -> str:
    article = f"{prefix} a" if prefix else "a"
    first = next(word for word in words if word)
    if first[0] in "aeiou":
        article += "n"
    return " ".join([article, *(word for word in words if word)])
