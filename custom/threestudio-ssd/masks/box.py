"""Selection by a 3D box."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import ConfigError


def in_box(means: Float[Tensor, "n 3"], box: Sequence[float]) -> Bool[Tensor, "n"]:
    """Which centres lie in the box.

    Args:
        means: Centres, world units.
        box: x_min y_min z_min x_max y_max z_max, world units.

    Raises:
        ConfigError: If the box is not six numbers with each minimum below its maximum.
    """
    values = list(box)
    if len(values) != 6 or not all(low < high for low, high in zip(values[:3], values[3:], strict=True)):
        raise ConfigError(
            what=f"mask.box is {values}",
            expected="x_min, y_min, z_min, x_max, y_max, z_max with each minimum below its maximum",
            fix="set mask.box=[-1,-1,0,1,1,2]",
        )
    corners = torch.tensor(values, dtype=means.dtype, device=means.device)
    return ((means >= corners[:3]) & (means <= corners[3:])).all(dim=1)
