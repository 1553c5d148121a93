"""What can be rendered and edited: splats and radiance fields, and the files that they are read from."""

from pathlib import Path

from .errors import ConfigError
from .fields import RadianceField, is_field, load_field
from .gaussians import Gaussians
from .gaussians.io import load_gaussians

Scene = Gaussians | RadianceField
"""Rows with places and colours, of which some are selected and edited: Gaussians, or the nodes of a field."""


def load_scene(path: str | Path, *, beside: Scene | None = None) -> Scene:
    """The scene of a splat file, or of the folder of a radiance field.

    Args:
        path: The file or folder.
        beside: A scene of the same place; see ``load_gaussians``.

    Raises:
        ConfigError: If it is empty.
        SceneFormatError: If it cannot be read.
    """
    return load_field(path) if is_field(path) else load_splat(path, beside=beside)


def load_splat(path: str | Path, *, beside: Scene | None = None) -> Gaussians:
    """The Gaussians of a splat file, for what a radiance field cannot do; see ``load_scene``.

    Raises:
        ConfigError: If it holds none.
        SceneFormatError: If it cannot be read, or is a radiance field.
    """
    gaussians = load_gaussians(path, beside=beside if isinstance(beside, Gaussians) else None)
    if len(gaussians) == 0:
        raise ConfigError(what=f"scene {path} holds no Gaussians", expected="at least one", fix="check the file")
    return gaussians
