"""Registered systems: 3D scenes and single pictures."""

from .scene_edit import SceneEditSystem

__all__ = ["SceneEditSystem"]
