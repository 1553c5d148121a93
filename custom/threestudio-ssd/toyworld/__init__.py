"""A parametric world of simple scenes with captions: training data, embedded scenes, ground truth of edits."""

from .vocabulary import ATTRIBUTES, COLORS, GROUNDS, OBJECTS, PATTERNS, TIMES, Attributes
from .world import (
    ORBIT_RADIUS,
    PART_GROUND,
    PART_OBJECT,
    PART_SKY,
    ToyCamera,
    ToyScene,
    build_scene,
    orbit_camera,
    sample_attributes,
    sample_camera,
)

__all__ = [
    "ATTRIBUTES",
    "COLORS",
    "GROUNDS",
    "OBJECTS",
    "ORBIT_RADIUS",
    "PART_GROUND",
    "PART_OBJECT",
    "PART_SKY",
    "PATTERNS",
    "TIMES",
    "Attributes",
    "ToyCamera",
    "ToyScene",
    "build_scene",
    "orbit_camera",
    "sample_attributes",
    "sample_camera",
]
