"""A box and a sphere that are dragged in the scene, and the key that says each in a command."""

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..masks.box import checked_box, checked_sphere
from ..masks.preview import TINT

DIGITS = 4
"""Significant digits of the numbers, measured by the size of the scene."""
COLOR = tuple(int(255 * value) for value in TINT)

MIDDLE, EDGE = 1.4, 0.5
"""Lengths of the arrows as shares of half the longest side; those in the middle stick out, as what is inside the
object cannot be seen."""
LINES: Any = {"thickness": 2.0, "thickness_units": "screen"}
"""Outlines are as thick from afar as from near."""
ARROWS: Any = {
    "disable_rotations": True, "disable_sliders": True, "line_width": 4.0, "translation_limits": ((-1e9, 1e9),) * 3,
}  # fmt: skip
"""A world may be of any size; viser's own limits are a thousand units."""


def _edges() -> np.ndarray:
    """(12 2 3) the edges of the box from -1 to 1."""
    corners = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
    pairs = itertools.combinations(corners, 2)
    return np.array([pair for pair in pairs if (pair[0] != pair[1]).sum() == 1])


def _circles(count: int = 48) -> np.ndarray:
    """(3 * count 2 3) three circles of radius 1 around the axes."""
    angles = np.linspace(0, 2 * np.pi, count + 1)
    circle = np.stack([np.cos(angles), np.sin(angles), np.zeros(count + 1)], axis=-1)
    lines = np.stack([circle[:-1], circle[1:]], axis=1)
    return np.concatenate([np.roll(lines, axis, axis=2) for axis in range(3)])


EDGES, CIRCLES = _edges(), _circles()


class Shape:
    """A box or sphere: a gizmo that moves it, one that sizes it, its outline, a switch, and a text with its key.

    Args:
        server: The browser's.
        name: ``box`` or ``sphere``.
        numbers: Where it is, as positions of the scene are counted.
        size: Of the scene, world units: how fine numbers are.
        is_on: Whether it selects.
        changed: Called when it was let go, typed or switched.
        local: ``Gaussians.local`` of the scene.
    """

    def __init__(
        self, server: Any, name: str, numbers: Sequence[float], size: float, is_on: bool, changed: Callable[[], None],
        local: Callable[..., list[float]],
    ) -> None:  # fmt: skip
        self.server, self.name, self._changed, self._local = server, name, changed, local
        self._digits = DIGITS - int(np.floor(np.log10(max(size, 1e-9)))) - 1
        self.numbers = self._rounded(numbers)
        self.switch = server.gui.add_checkbox(name, is_on)
        self.text = server.gui.add_text(f"key of {name}", self.key, visible=is_on, hint="copy it into a command")
        scene, options = server.scene, {**ARROWS, "visible": is_on}
        self._middle = scene.add_transform_controls(f"/{name}/middle", **options)
        self._edge = scene.add_transform_controls(f"/{name}/edge", **options)
        lines = EDGES if name == "box" else CIRCLES
        self._outline = scene.add_line_segments(f"/{name}/outline", lines, COLOR, visible=is_on, **LINES)
        self._place()
        for gizmo in (self._middle, self._edge):
            gizmo.on_update(lambda event: self._dragged(event.target, event.phase))
        self.switch.on_update(lambda _: self._switched())
        self.text.on_update(lambda event: self._typed() if event.client is not None else None)

    @property
    def key(self) -> str:
        """As a command has it."""
        return f"mask.{self.name}={json.dumps(self.value, separators=(',', ':'))}"

    @property
    def value(self) -> list[float]:
        """Of its key, in the world of the scene's file."""
        return self._rounded(self._local(self.numbers, 1))

    @property
    def is_on(self) -> bool:
        """Whether it selects."""
        return self.switch.value

    def _rounded(self, numbers: Sequence[float]) -> list[float]:
        return [round(float(number), self._digits) + 0.0 for number in numbers]

    def _middle_and_edge(self) -> tuple[np.ndarray, np.ndarray]:
        """Its middle, and what the other gizmo is at: a corner of the box, a point of the sphere that faces one."""
        numbers = np.asarray(self.numbers)
        if self.name == "box":
            return (numbers[:3] + numbers[3:]) / 2, numbers[3:]
        return numbers[:3], numbers[:3] + numbers[3] / 3**0.5

    def _place(self, *, dragged: str = "", writes: bool = True) -> None:
        """Put everything where the numbers say; a gizmo that is being dragged is left to the hand that holds it."""
        middle, edge = self._middle_and_edge()
        half = edge - middle if self.name == "box" else np.full(3, self.numbers[3])
        with self.server.atomic():
            self._outline.position, self._outline.scale = middle, tuple(half.tolist())
            for gizmo, place, share in ((self._middle, middle, MIDDLE), (self._edge, edge, EDGE)):
                if not dragged:
                    gizmo.scale = share * float(half.max())
                if gizmo.name != dragged:
                    gizmo.position = place
            if writes:
                self.text.value = self.key

    def _dragged(self, gizmo: Any, phase: str) -> None:
        """Follow a gizmo; the whole moves with its middle, and grows about it with its edge."""
        middle, edge = self._middle_and_edge()
        place = np.array(gizmo.position)
        if gizmo.name == self._middle.name:
            middle, edge = place, edge + place - middle
        else:
            edge = place
        least = 10.0**-self._digits
        if self.name == "box":
            half = np.maximum(np.abs(edge - middle), least)
            self.numbers = self._rounded([*(middle - half), *(middle + half)])
        else:
            self.numbers = self._rounded([*middle, max(float(np.linalg.norm(edge - middle)), least)])
        self._place(dragged="" if phase == "end" else gizmo.name)
        if phase == "end":
            self._changed()

    def _typed(self) -> None:
        """Take the numbers of a text; one that is being typed changes nothing until it is whole."""
        check = checked_box if self.name == "box" else checked_sphere
        try:
            self.numbers = self._local(check(json.loads(self.text.value.split("=")[-1])))
        except (ValueError, TypeError, ConfigError):
            return
        self._place(writes=False)
        self._changed()

    def _switched(self) -> None:
        for part in (self.text, self._middle, self._edge, self._outline):
            part.visible = self.is_on
        self._changed()
