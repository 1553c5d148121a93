"""Registered systems: 3D scenes, single pictures, and splats from photographs."""

from .editable_pictures import EditablePictures
from .image_edit import ImageEditSystem
from .scene_add import SceneAddSystem
from .scene_delete import SceneDeleteSystem
from .scene_edit import SceneEditSystem
from .scene_fit import SceneFitSystem

__all__ = [
    "EditablePictures",
    "ImageEditSystem",
    "SceneAddSystem",
    "SceneDeleteSystem",
    "SceneEditSystem",
    "SceneFitSystem",
]
