"""Lines drawn into views: world axes with ticks, and the boxes and spheres that keys name, in perspective.

What stands in front of a line does not hide it. Pixels are those of ``Cameras``: their centres lie at +0.5.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import torch
from jaxtyping import Float
from torch import Tensor

from ..cameras import Cameras
from ..cameras.cameras import FAR
from ..cameras.orbit import weighted_quantiles
from .box import checked_box, checked_sphere

Color = tuple[int, int, int]
AXES: dict[str, Color] = {"x": (255, 64, 64), "y": (76, 230, 76), "z": (115, 153, 255)}
BOX, SPHERE, HALO = (255, 242, 51), (255, 128, 255), (0, 0, 0)
"""RGB, 0 to 255."""
NEAR = 1e-2
"""Lines are cut off at this depth, as a share of the distance to the middle of what is drawn."""
TICKS = 5
"""Ticks across what a view shows of an axis, about."""
TICK_SIZE, FONT_SIZE, ROOM = 3, 0.36, 24
"""Half the length of a tick, pixels; the size of labels in OpenCV's units; pixels between two labels."""
ARC = 64
"""Straight pieces of a circle."""
FARTHEST = 1 << 24
"""Pixels beyond which OpenCV would lose count."""
CORE = (0.02, 0.98)
"""Quantiles of what may change between which its axes lie."""


@dataclass(frozen=True, eq=False)
class Outline:
    """A box or a sphere that a key names.

    Attributes:
        key: The key, as the command line has it.
        numbers: Its value.
        lines: Polylines (k 3), world.
        color: RGB, 0 to 255.
    """

    key: str
    numbers: list[float]
    lines: list[Float[Tensor, "_ 3"]]
    color: Color

    @property
    def text(self) -> str:
        """The key with its value, to be pasted into a command."""
        texts = (f"{number:g}" if abs(number) < FAR else f"{number:.10g}" for number in self.numbers)
        return f"{self.key}=[{','.join(texts)}]"

    def counted_from(self, offset: Sequence[float]) -> "Outline":
        """The same, drawn where positions are counted from a point of the world."""
        start = torch.tensor(offset, dtype=torch.float64)
        return replace(self, lines=[line - start for line in self.lines])

    @property
    def bounds(self) -> Float[Tensor, "2 3"]:
        """The corners it lies between."""
        points = torch.cat(self.lines)
        return torch.stack([points.amin(0), points.amax(0)])


def box_outline(key: str, box: Sequence[float]) -> Outline:
    """The twelve edges of a box.

    Raises:
        ConfigError: If it is no box.
    """
    corners = torch.tensor(checked_box(box, key), dtype=torch.float64).view(2, 3)
    places = [torch.tensor([i >> 2 & 1, i >> 1 & 1, i & 1]) for i in range(8)]
    pairs = [(a, b) for a in places for b in places if int((b - a).sum()) == 1 and int((b - a).abs().sum()) == 1]
    lines = [torch.stack([corners[end, range(3)] for end in pair]) for pair in pairs]
    return Outline(key, list(box), lines, BOX)


def sphere_outline(key: str, sphere: Sequence[float]) -> Outline:
    """Three circles around a sphere, each across one axis.

    Raises:
        ConfigError: If it is no sphere.
    """
    *center, radius = checked_sphere(sphere, key)
    angles = torch.linspace(0, 2 * math.pi, ARC + 1, dtype=torch.float64)
    circle = torch.stack([angles.cos(), angles.sin(), torch.zeros_like(angles)], dim=1) * radius
    middle = torch.tensor(center, dtype=torch.float64)
    return Outline(key, list(sphere), [middle + circle.roll(shift, 1) for shift in range(3)], SPHERE)


def mask_outlines(part: Any, key: str = "mask") -> list[Outline]:
    """The boxes and spheres of a mask and of all parts inside it.

    Args:
        part: Keys of ``MaskPart``, or a group of some of them.
        key: Where they stand.

    Raises:
        ConfigError: For one that is none.
    """
    outlines = []
    if part.get("box") is not None:
        outlines.append(box_outline(f"{key}.box", part["box"]))
    if part.get("sphere") is not None:
        outlines.append(sphere_outline(f"{key}.sphere", part["sphere"]))
    for name in ("any_of", "none_of"):
        for place, inner in enumerate(part.get(name) or ()):
            outlines += mask_outlines(inner, f"{key}.{name}[{place}]")
    return outlines


def named_outlines(system: Any) -> list[Outline]:
    """All boxes and spheres that the keys of a system name: those of its mask, an addition's ``box``, a ``region``.

    Raises:
        ConfigError: For one that is none.
    """
    outlines = mask_outlines(system.get("mask") or {})
    for name, key in (("box", "box"), ("region", "system.region")):
        if system.get(name):
            outlines.append(box_outline(key, system[name]))
    return outlines


def core_of(means: Float[Tensor, "n 3"] | None, outlines: Sequence[Outline] = ()) -> Float[Tensor, "2 3"]:
    """The corners that hold most of what may change and all outlines, float64; where axes are drawn.

    Args:
        means: Centres of what may change; None: outlines alone, of which there is one at least.
        outlines: Boxes and spheres.
    """
    bounds = [outline.bounds for outline in outlines]
    if means is not None:
        means = means.detach().cpu().double()
        evenly = torch.ones(len(means), dtype=means.dtype)
        bounds.append(torch.stack([weighted_quantiles(means, evenly, share) for share in CORE]))
    bounds = torch.stack(bounds)
    return torch.stack([bounds[:, 0].amin(0), bounds[:, 1].amax(0)])


def with_lines(
    image: Float[Tensor, "h w 3"], camera: Cameras, core: Float[Tensor, "2 3"], outlines: Sequence[Outline] = ()
) -> Float[Tensor, "h w 3"]:
    """An image with the world's axes through the middle of ``core``, their ticks, and outlines with their keys.

    Args:
        image: Of the camera, in [0, 1]; not changed.
        camera: One.
        core: Least and greatest corner of what the axes measure, world units.
        outlines: Boxes and spheres.
    """
    pen = _Pen(image, camera, near=NEAR * float((camera.centers[0].cpu().double() - core.mean(0)).norm()))
    for outline in outlines:
        for line in outline.lines:
            pen.polyline(line, outline.color)
    for outline in outlines:
        pen.label(torch.cat(outline.lines), outline.key, outline.color)
    _draw_axes(pen, core)
    return pen.image()


def tick_distance(length: float) -> float:
    """The round number (1, 2 or 5 times a power of ten) nearest below a fifth of a length."""
    step = max(length, 1e-9) / TICKS
    power = 10.0 ** math.floor(math.log10(step))
    return next(round_one for round_one in (5 * power, 2 * power, power, power / 2) if round_one <= step * (1 + 1e-9))


def _draw_axes(pen: "_Pen", core: Float[Tensor, "2 3"]) -> None:
    """Each axis through the middle, from side to side of the core or of the image, whichever is nearer."""
    low, high = core
    step = tick_distance(min(float((high - low).max()), pen.width_at((low + high) / 2)))
    middle = ((low + high) / 2 / step).round() * step
    for axis, (name, color) in enumerate(AXES.items()):
        first, last = (math.floor(low[axis] / step) * step, math.ceil(high[axis] / step) * step)
        ends = middle.repeat(2, 1)
        ends[0, axis], ends[1, axis] = first, last
        pen.polyline(ends, color)
        counts = range(round(last / step), round(first / step) - 1, -1)
        places = middle.repeat(len(counts), 1)
        places[:, axis] = torch.tensor([count * step for count in counts])
        texts = [f"{count * step:.6g}" for count in counts]
        pen.ticks(places, [f"{name} {texts[0]}", *texts[1:]], color)


class _Pen:
    """Draws world points into a copy of an image."""

    def __init__(self, image: Float[Tensor, "h w 3"], camera: Cameras, near: float) -> None:
        self.blank = image
        self.canvas = (image.detach().cpu() * 255).round().byte().contiguous().numpy()
        self._untouched = self.canvas.copy()
        self.camera, self.near = camera.to("cpu"), near

    def image(self) -> Float[Tensor, "h w 3"]:
        """What was drawn; pixels that no line touched are those of the image, to the last bit."""
        is_drawn = torch.from_numpy((self.canvas != self._untouched).any(axis=-1, keepdims=True))
        drawn = torch.from_numpy(self.canvas).to(self.blank) / 255
        return torch.where(is_drawn.to(self.blank.device), drawn, self.blank)

    def width_at(self, point: Float[Tensor, "3"]) -> float:
        """World units that the image is wide at the depth of a point; infinity behind the camera."""
        depth = float(self.camera.pixels(0, point[None])[1])
        return self.canvas.shape[1] * depth / float(self.camera.Ks[0, 0, 0]) if depth > self.near else math.inf

    def polyline(self, points: Float[Tensor, "k 3"], color: Color) -> None:
        """Straight lines from point to point, each as far as it is in front of the camera."""
        for a, b in self._in_front(points):
            cv2.line(self.canvas, a, b, HALO, 2, cv2.LINE_AA)
        for a, b in self._in_front(points):
            cv2.line(self.canvas, a, b, color, 1, cv2.LINE_AA)

    def ticks(self, points: Float[Tensor, "k 3"], texts: Sequence[str], color: Color) -> None:
        """Small crosses where points are in the image, and the texts of those that have room for one."""
        last = None
        for place, text in zip(map(self._place, points), texts, strict=True):
            if place is None:
                continue
            cv2.drawMarker(self.canvas, place, color, cv2.MARKER_TILTED_CROSS, 2 * TICK_SIZE, 1)
            if last is None or math.dist(place, last) >= ROOM:
                self._text((place[0] + TICK_SIZE, place[1] - TICK_SIZE), text, color)
                last = place

    def label(self, points: Float[Tensor, "k 3"], text: str, color: Color) -> None:
        """A text at the uppermost of the points that are in the image."""
        places = [place for place in map(self._place, points) if place is not None]
        if places:
            self._text(min(places, key=lambda place: place[1]), text, color)

    def _text(self, place: tuple[int, int], text: str, color: Color) -> None:
        (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, FONT_SIZE, 1)
        left = max(1, min(place[0] + 2, self.canvas.shape[1] - wide - 1))
        bottom = max(high + 1, min(place[1] - 2, self.canvas.shape[0] - 2))
        strokes = [(dx, dy, HALO) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
        for dx, dy, shade in (*strokes, (0, 0, color)):
            place = (left + dx, bottom + dy)
            cv2.putText(self.canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, FONT_SIZE, shade, 1, cv2.LINE_AA)

    def _place(self, point: Float[Tensor, "3"]) -> tuple[int, int] | None:
        pixels, depths = self.camera.pixels(0, point[None])
        column, row = (pixels[0] - 0.5).round().tolist() if float(depths) > self.near else (-1, -1)
        height, width = self.canvas.shape[:2]
        return (int(column), int(row)) if 0 <= column < width and 0 <= row < height else None

    def _in_front(self, points: Float[Tensor, "k 3"]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """Pixels of the ends of each piece, cut off where it would go behind the camera."""
        depths = self.camera.pixels(0, points)[1]
        for a, b, depth_a, depth_b in zip(points[:-1], points[1:], depths[:-1], depths[1:], strict=True):
            if max(depth_a, depth_b) <= self.near:
                continue
            share_a, share_b = (
                min(max(float((self.near - start) / (end - start)), 0.0), 1.0) if start < self.near else 0.0
                for start, end in ((depth_a, depth_b), (depth_b, depth_a))
            )
            ends = torch.stack([a + share_a * (b - a), b + share_b * (a - b)])
            pixels = (self.camera.pixels(0, ends)[0] - 0.5).clamp(-FARTHEST, FARTHEST).round().int().tolist()
            yield tuple(pixels[0]), tuple(pixels[1])
