"""Selection by a 3D box or sphere."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import ConfigError


def in_box(means: Float[Tensor, "n 3"], box: Sequence[float], key: str = "mask.box") -> Bool[Tensor, "n"]:
    """Which centres lie in the box.

    Args:
        means: Centres, world units.
        box: x_min y_min z_min x_max y_max z_max, world units.
        key: Where it stands in the config, for the message.

    Raises:
        ConfigError: If the box is not six numbers with each minimum below its maximum.
    """
    corners = torch.tensor(checked_box(box, key), dtype=means.dtype, device=means.device)
    return ((means >= corners[:3]) & (means <= corners[3:])).all(dim=1)


def in_sphere(means: Float[Tensor, "n 3"], sphere: Sequence[float]) -> Bool[Tensor, "n"]:
    """Which centres lie in the sphere.

    Args:
        means: Centres, world units.
        sphere: x y z radius, world units.

    Raises:
        ConfigError: If the sphere is not four numbers with a radius above 0.
    """
    numbers = torch.tensor(checked_sphere(sphere), dtype=means.dtype, device=means.device)
    return (means - numbers[:3]).norm(dim=1) <= numbers[3]


def checked_box(box: Sequence[float], key: str = "mask.box") -> list[float]:
    """The six numbers of a box.

    Raises:
        ConfigError: As ``in_box`` does.
    """
    values = list(box)
    if len(values) != 6 or not all(low < high for low, high in zip(values[:3], values[3:], strict=True)):
        what = f"{key} is {values}"
        expected = "x_min, y_min, z_min, x_max, y_max, z_max with each minimum below its maximum"
        raise ConfigError(what=what, expected=expected, fix=f"set {key}=[-1,-1,0,1,1,2]")
    return values


def checked_sphere(sphere: Sequence[float], key: str = "mask.sphere") -> list[float]:
    """The four numbers of a sphere.

    Raises:
        ConfigError: As ``in_sphere`` does.
    """
    values = list(sphere)
    if len(values) != 4 or not values[3] > 0:
        fix = f"set {key}=[0,0,1,1.5]"
        raise ConfigError(what=f"{key} is {values}", expected="x, y, z and a radius above 0", fix=fix)
    return values
