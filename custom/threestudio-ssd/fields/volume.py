"""Volume rendering: how much of a ray each of its samples makes up (Mildenhall et al. 2020, Eq. 3).

A sample of optical depth d has the alpha 1 - exp(-d), and the light behind it comes through by exp(-d). nerfacc's
kernels compute it where they are installed and the tensors are on a CUDA device; elsewhere plain torch does.
"""

import functools
import importlib
import importlib.util
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


@functools.cache
def nerfacc() -> Any:
    """The package, imported at the first call; None where it is not installed."""
    return importlib.import_module("nerfacc") if importlib.util.find_spec("nerfacc") else None


def transmittances(depths: Float[Tensor, "s"], rays: Int[Tensor, "s"], num_rays: int) -> Float[Tensor, "s"]:
    """Share of the light that comes through to each sample from the ray's start, exp(-sum of the depths before it).

    Args:
        depths: Optical depths, >= 0.
        rays: Which ray each is on, from the first to the last.
        num_rays: How many there are.
    """
    sums = depths.double().cumsum(0)  # over all rays at once, so singles would be too coarse
    before = torch.cat([sums.new_zeros(1), sums[:-1]])
    counts = torch.bincount(rays, minlength=num_rays)
    starts = (counts.cumsum(0) - counts).clamp_max(max(len(rays) - 1, 0))
    return (before.index_select(0, starts.index_select(0, rays)) - before).exp().to(depths) if len(rays) else depths


def ray_weights(depths: Float[Tensor, "s"], rays: Int[Tensor, "s"], num_rays: int) -> Float[Tensor, "s"]:
    """Share of a ray's light that each sample makes up; those of a ray sum to its alpha.

    Args:
        depths: Optical depths, density times length, >= 0.
        rays: Which ray each is on, from the first to the last, from near to far.
        num_rays: How many there are.
    """
    if depths.is_cuda and (kernels := nerfacc()) is not None:
        starts = torch.zeros_like(depths)
        # density times length is all that counts: lengths of 1, densities of the depths
        return kernels.render_weight_from_density(
            starts, torch.ones_like(depths), depths, ray_indices=rays, n_rays=num_rays
        )[0]
    return (1 - (-depths).exp()) * transmittances(depths, rays, num_rays)


def composite(
    weights: Float[Tensor, "s"], values: Float[Tensor, "s d"], rays: Int[Tensor, "s"], num_rays: int
) -> Float[Tensor, "r d"]:
    """What each ray shows: the sum of its samples' values times their weights.

    Args:
        weights: Of ``ray_weights``.
        values: Of each sample.
        rays: Which ray each is on.
        num_rays: How many there are.
    """
    if weights.is_cuda and (kernels := nerfacc()) is not None:
        return kernels.accumulate_along_rays(weights, values, ray_indices=rays, n_rays=num_rays)
    return values.new_zeros(num_rays, values.shape[1]).index_add(0, rays, weights[:, None] * values)
