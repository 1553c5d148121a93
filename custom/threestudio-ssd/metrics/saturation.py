"""Colour saturation: do edits come out more vivid, or greyer, than they should?"""

import torch
from jaxtyping import Float
from torch import Tensor

from .regions import region_metric


@region_metric
def saturation_drift(images: Float[Tensor, "b 3 h w"], references: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
    """Mean chroma (largest minus smallest of R, G, B) of the images minus that of the references.

    Arguments as in ``RegionMetric``. Values are signed, in [-1, 1]: positive is too vivid, 0 is right.
    """
    return chroma(images) - chroma(references)


def chroma(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
    """Largest minus smallest channel: 0 for greys, 1 for pure colours at full value."""
    low, high = torch.aminmax(images, dim=1)
    return high - low
