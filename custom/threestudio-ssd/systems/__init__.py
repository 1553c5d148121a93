"""Registered systems: 3D scenes and single pictures."""

from .editable_pictures import EditablePictures
from .image_edit import ImageEditSystem
from .scene_edit import SceneEditSystem

__all__ = ["EditablePictures", "ImageEditSystem", "SceneEditSystem"]
