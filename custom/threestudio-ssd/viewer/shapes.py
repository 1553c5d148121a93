"""A box and a sphere that are dragged in the scene, and the key that says each in a command."""

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


class Shape:
    """A box or sphere: a gizmo that moves it, one that sizes it, its outline, a switch, and a text with its key.

    Args:
        server: The browser's.
        name: ``box`` or ``sphere``.
        numbers: Where it is, as its key has them.
        size: Of the scene, world units: how large gizmos are, and how fine numbers.
        is_on: Whether it selects.
        changed: Called when it was let go, typed or switched.
    """

    def __init__(
        self, server: Any, name: str, numbers: Sequence[float], size: float, is_on: bool, changed: Callable[[], None]
    ) -> None:
        self.server, self.name, self._changed = server, name, changed
        self._digits = DIGITS - int(np.floor(np.log10(max(size, 1e-9)))) - 1
        self.numbers = self._rounded(numbers)
        self.switch = server.gui.add_checkbox(name, is_on)
        self.text = server.gui.add_text(f"key of {name}", self.key, visible=is_on, hint="copy it into a command")
        options = {"scale": 0.2 * size, "disable_rotations": True, "depth_test": False, "visible": is_on}
        self._middle = server.scene.add_transform_controls(f"/{name}/middle", **options)
        axes = (True, True, True) if name == "box" else (True, False, False)
        options |= {"scale": 0.1 * size, "disable_sliders": True, "active_axes": axes}
        self._edge = server.scene.add_transform_controls(f"/{name}/edge", **options)
        self._outline = self._add_outline(is_on)
        self._place()
        self._middle.on_update(lambda event: self._dragged(event.phase, is_whole=True))
        self._edge.on_update(lambda event: self._dragged(event.phase, is_whole=False))
        self.switch.on_update(lambda _: self._switched())
        self.text.on_update(lambda event: self._typed() if event.client is not None else None)

    @property
    def key(self) -> str:
        """As a command has it."""
        return f"mask.{self.name}={json.dumps(self.numbers, separators=(',', ':'))}"

    @property
    def is_on(self) -> bool:
        """Whether it selects."""
        return self.switch.value

    def _rounded(self, numbers: Sequence[float]) -> list[float]:
        return [round(float(number), self._digits) + 0.0 for number in numbers]

    def _middle_and_edge(self) -> tuple[np.ndarray, np.ndarray]:
        """Its middle, and what the other gizmo is at: a corner of the box, a point of the sphere."""
        numbers = np.asarray(self.numbers)
        if self.name == "box":
            return (numbers[:3] + numbers[3:]) / 2, numbers[3:]
        return numbers[:3], numbers[:3] + [numbers[3], 0, 0]

    def _add_outline(self, is_on: bool) -> Any:
        scene = self.server.scene
        if self.name == "box":
            return scene.add_box(f"/{self.name}/outline", COLOR, (1.0, 1.0, 1.0), wireframe=True, visible=is_on)
        return scene.add_icosphere(f"/{self.name}/outline", 1.0, COLOR, wireframe=True, visible=is_on)

    def _place(self, *, moves_gizmos: bool = True, writes: bool = True) -> None:
        middle, edge = self._middle_and_edge()
        with self.server.atomic():
            if moves_gizmos:
                self._middle.position, self._edge.position = middle, edge
            self._outline.position = middle
            if self.name == "box":
                self._outline.dimensions = tuple(2 * (edge - middle))
            else:
                self._outline.scale = self.numbers[3]
            if writes:
                self.text.value = self.key

    def _dragged(self, phase: str, *, is_whole: bool) -> None:
        """Follow a gizmo; the whole moves with its middle, and grows about it with its edge."""
        middle, edge = self._middle_and_edge()
        if is_whole:
            moved = np.asarray(self._middle.position) - middle
            middle, edge = middle + moved, edge + moved
        else:
            edge = np.asarray(self._edge.position)
        half = np.maximum(np.abs(edge - middle), 10.0**-self._digits)
        numbers = [*(middle - half), *(middle + half)] if self.name == "box" else [*middle, half[0]]
        self.numbers = self._rounded(numbers)
        self._place(moves_gizmos=phase == "end" or is_whole)
        if phase == "end":
            self._changed()

    def _typed(self) -> None:
        """Take the numbers of a text; one that is being typed changes nothing until it is whole."""
        check = checked_box if self.name == "box" else checked_sphere
        try:
            self.numbers = [float(number) for number in check(json.loads(self.text.value.split("=")[-1]))]
        except (ValueError, TypeError, ConfigError):
            return
        self._place(writes=False)
        self._changed()

    def _switched(self) -> None:
        for part in (self.text, self._middle, self._edge, self._outline):
            part.visible = self.is_on
        self._changed()
