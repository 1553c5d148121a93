"""A parametric world of simple scenes with captions: training data, embedded scenes, ground truth of edits."""

from .vocabulary import ATTRIBUTES, Attributes
from .world import (
    PART_GROUND,
    PART_OBJECT,
    PART_SKY,
    build_scene,
    object_yaw_deg,
    orbit_camera,
    sample_attributes,
    sample_camera,
    sample_view,
)

__all__ = [
    "ATTRIBUTES", "PART_GROUND", "PART_OBJECT", "PART_SKY", "Attributes", "build_scene", "object_yaw_deg",
    "orbit_camera", "sample_attributes", "sample_camera", "sample_view",
]  # fmt: skip
