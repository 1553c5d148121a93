"""One image to edit: how it is read."""

from typing import Any

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..errors import ConfigError, SceneFormatError
from ..images import as_tensor, fitting_size, read_rgb

MAX_ASPECT = 32
"""Of the sides of an image."""


def check_size(size: int) -> None:
    """Refuse a size of the image that there is not.

    Args:
        size: ``data.size``.

    Raises:
        ConfigError: If it is below 0.
    """
    if size < 0:
        fix = "leave data.size out for the size that the model was trained on"
        raise ConfigError(what=f"data.size is {size}", expected="pixels, or 0", fix=fix)


def load_image(cfg: Any, model_size: int, size_multiple: int) -> Float[Tensor, "1 3 h w"]:
    """The image in [0, 1], its shorter side at the size of the config or the model, sides in whole multiples.

    Args:
        cfg: Keys of ``SingleImageConfig``.
        model_size: Side that the model was trained on, pixels.
        size_multiple: What its sides must be multiples of, pixels.

    Raises:
        ConfigError: If the size is below 0.
        SceneFormatError: If the file cannot be read.
    """
    check_size(cfg.size)
    image = read_rgb(cfg.picture, "picture")
    if max(image.size) > MAX_ASPECT * min(image.size):
        what = f"picture {cfg.picture} is {image.size[0]} x {image.size[1]} pixels"
        expected = f"a longer side of at most {MAX_ASPECT} times the shorter"
        raise SceneFormatError(what=what, expected=expected, fix="cut it to what is to be edited")
    width, height = fitting_size(image.size, cfg.size or model_size, size_multiple)
    return as_tensor(image.resize((width, height), Image.Resampling.LANCZOS))
