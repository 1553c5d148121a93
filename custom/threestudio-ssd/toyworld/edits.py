"""Edits of toy scenes whose outcome is known."""

from dataclasses import dataclass

from ..errors import ConfigError
from .captions import describe
from .instructions import instructions
from .vocabulary import Attributes

OBJECT_ATTRIBUTES = ("object", "color", "pattern")
NULL = "null"
"""What a null edit changes: its target is its source."""
EDITS = {
    "blue-ball": ("red plain ball grass day", "color=blue"),
    "red-car": ("green plain car sand day", "color=red"),
    "purple-mushroom": ("yellow plain mushroom snow day", "color=purple"),
    "green-cube": ("white plain cube wood day", "color=green"),
    "yellow-house": ("blue plain house grass sunset", "color=yellow"),
    "pink-donut": ("orange plain donut sand night", "color=pink"),
    "white-cone": ("purple plain cone wood day", "color=white"),
    "striped-cylinder": ("orange plain cylinder grass day", "pattern=striped"),
    "dotted-cone": ("purple plain cone wood day", "pattern=dotted"),
    "checkered-cube": ("red plain cube sand day", "pattern=checkered"),
    "striped-ball": ("blue plain ball snow day", "pattern=striped"),
    "plain-house": ("green striped house grass day", "pattern=plain"),
    "cube": ("red plain ball grass day", "object=cube"),
    "cone": ("yellow plain cylinder sand day", "object=cone"),
    "mushroom": ("green plain tree snow day", "object=mushroom"),
    "donut": ("pink plain cube wood day", "object=donut"),
    "snow": ("red plain snowman grass day", "ground=snow"),
    "sand": ("blue plain house snow day", "ground=sand"),
    "wood": ("yellow plain donut sand day", "ground=wood"),
    "grass": ("white plain car wood day", "ground=grass"),
    "night": ("white plain donut sand day", "time=night"),
    "sunset": ("green plain tree grass day", "time=sunset"),
    "day": ("purple plain cube snow night", "time=day"),
    "sunset-to-night": ("red plain cone sand sunset", "time=night"),
    "null-ball": ("red plain ball grass day", NULL),
    "null-mushroom": ("yellow plain mushroom snow sunset", NULL),
    "null-house": ("blue striped house wood day", NULL),
}
"""Name -> (source scene, the attribute that the target changes)."""
SHAPE_EDITS = {
    "cylinder-cone": EDITS["cone"],
    "ball-snowman": ("red plain ball grass day", "object=snowman"),
    "cone-tree": ("green plain cone wood day", "object=tree"),
    "snowman-ball": ("blue plain snowman sand day", "object=ball"),
    "ball-mushroom": ("purple plain ball snow day", "object=mushroom"),
    "tree-mushroom": EDITS["mushroom"],
    "ball-cube": EDITS["cube"],
    "cube-donut": EDITS["donut"],
    "ball-car": ("orange plain ball sand day", "object=car"),
    "cube-ball": ("yellow plain cube grass day", "object=ball"),
    "car-house": ("red plain car grass day", "object=house"),
    "house-cube": ("blue plain house snow day", "object=cube"),
    "mushroom-cylinder": ("pink plain mushroom sand day", "object=cylinder"),
    "donut-cone": ("purple plain donut grass day", "object=cone"),
    "tree-snowman": ("orange plain tree wood day", "object=snowman"),
}
"""The same for changes of shape alone; each of the ten objects is made at least once."""


@dataclass(frozen=True)
class ToyEdit:
    """One edit with known outcome."""

    name: str
    source: Attributes
    target: Attributes
    attribute: str
    """The attribute that changes, or ``null``."""

    @property
    def has_mask(self) -> bool:
        """Edits of the object may be masked to it; edits of ground and light are not masked at all."""
        return self.attribute in OBJECT_ATTRIBUTES

    @property
    def prompts(self) -> tuple[str, str]:
        """Captions of source and target."""
        return describe(self.source), describe(self.target)

    @property
    def instruction(self) -> str:
        """What to tell InstructPix2Pix; for a null edit, what is there already."""
        if self.attribute == NULL:
            return f"make it {self.source.color}"
        return instructions(self.source, self.target)[0]


def toy_edit(name: str) -> ToyEdit:
    """The edit of this name in ``EDITS`` or ``SHAPE_EDITS``.

    Raises:
        ConfigError: If there is none.
    """
    edits = EDITS | SHAPE_EDITS
    if name not in edits:
        raise ConfigError(what=f"there is no toy edit {name!r}", expected=f"some of {', '.join(edits)}", fix="choose")
    words, change = edits[name]
    source = Attributes.from_words(words)
    if change == NULL:
        return ToyEdit(name, source, source, NULL)
    attribute, value = change.split("=")
    return ToyEdit(name, source, source._replace(**{attribute: value}), attribute)
