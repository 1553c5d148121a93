"""The system that adds an object by words."""

import threestudio

from ..edits.scene_add import SceneAdd, SceneAddConfig
from .scene_edit import SceneEditSystem


@threestudio.register("gs-add-system")
class SceneAddSystem(SceneEditSystem):
    """Generates an object in a box; ``save/edited.<suffix of the scene>`` is the scene with it."""

    Config = SceneAddConfig
    edit_type = SceneAdd
