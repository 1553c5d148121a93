"""Mean squared error."""

from jaxtyping import Float
from torch import Tensor

from .regions import region_metric


@region_metric
def mse(images: Float[Tensor, "b 3 h w"], references: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
    """Mean squared error per image, over pixels and channels, in [0, 1]; lower is closer.

    Arguments as in ``RegionMetric``. PIE-Bench reports it times 10^4.
    """
    return (images - references).square().mean(1)
