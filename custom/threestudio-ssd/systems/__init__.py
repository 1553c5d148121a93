"""Registered systems: 3D scenes and single pictures."""

from .editable_pictures import EditablePictures
from .image_edit import ImageEditSystem
from .scene_add import SceneAddSystem
from .scene_delete import SceneDeleteSystem
from .scene_edit import SceneEditSystem

__all__ = [
    "EditablePictures",
    "ImageEditSystem",
    "SceneAddSystem",
    "SceneDeleteSystem",
    "SceneEditSystem",
]
