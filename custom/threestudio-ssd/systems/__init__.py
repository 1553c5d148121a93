"""Registered systems: 3D scenes and single pictures."""

from .image_edit import ImageEditSystem
from .scene_edit import SceneEditSystem

__all__ = ["ImageEditSystem", "SceneEditSystem"]
