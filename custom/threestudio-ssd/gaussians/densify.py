"""Growing and pruning sets of Gaussians (Kerbl et al. 2023, section 5.2), as functions of tensors."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .model import Gaussians
from .transform import rotation_matrices

SPLIT_SHRINKS = 1.6
"""The two halves of a split Gaussian are smaller by this factor."""


@dataclass(frozen=True)
class Offspring:
    """What became of some Gaussians.

    Attributes:
        gaussians: (m) as they are now; the survivors first, in their old order.
        parents: (m) the row each stems from.
        is_new: (m) born now; a survivor is its own parent.
    """

    gaussians: Gaussians
    parents: Int[Tensor, "m"]
    is_new: Bool[Tensor, "m"]

    def without(self, is_pruned: Bool[Tensor, "m"]) -> "Offspring":
        """The same without some of them; all of them if that would leave none."""
        if is_pruned.all():
            return self
        kept = ~is_pruned
        return Offspring(self.gaussians.select(kept), self.parents[kept], self.is_new[kept])


def strongest(grads: Float[Tensor, "n"], share: float, least: float, room: int) -> Bool[Tensor, "n"]:
    """The Gaussians that grow: a share of those with any gradient, the largest first.

    Args:
        grads: Mean gradient on the screen, >= 0.
        share: Of the Gaussians whose gradient is not zero, in (0, 1]; at least one grows.
        least: Smaller gradients do not count.
        room: At most so many grow.
    """
    num_moved = int((grads > 0).sum())
    count = min(max(1, round(share * num_moved)), num_moved, max(room, 0))
    is_strong = torch.zeros_like(grads, dtype=torch.bool)
    is_strong[grads.topk(count).indices] = True
    return is_strong & (grads >= least) & (grads > 0)


def grow(
    gaussians: Gaussians, is_growing: Bool[Tensor, "n"], split_above: float, generator: torch.Generator
) -> Offspring:
    """Clone small Gaussians, split large ones.

    A clone is an exact copy beside its parent. A split Gaussian is replaced by two, drawn from it, smaller by 1.6.

    Args:
        gaussians: The Gaussians.
        is_growing: Which of them grow.
        split_above: Largest scale above which one is split, world units.
        generator: On the CPU; decides where the halves lie.
    """
    rows = torch.arange(len(gaussians), device=gaussians.device)
    is_large = gaussians.scales.amax(dim=1) > split_above
    is_split = is_growing & is_large
    kept, cloned, halves = rows[~is_split], rows[is_growing & ~is_large], rows[is_split].repeat(2)
    grown = gaussians.select(torch.cat([kept, cloned, halves]))
    parents = torch.cat([kept, cloned, halves])
    is_new = torch.arange(len(parents), device=rows.device) >= len(kept)
    if len(halves):
        split = gaussians.select(halves)
        noise = torch.randn(len(halves), 3, generator=generator).to(split.means)
        shifts = (rotation_matrices(split.quats) @ (split.scales * noise)[:, :, None])[:, :, 0]
        first = len(parents) - len(halves)
        means, log_scales = grown.means.clone(), grown.log_scales.clone()
        means[first:] += shifts
        log_scales[first:] -= torch.tensor(SPLIT_SHRINKS).log().to(log_scales)
        grown = grown.replace(means=means, log_scales=log_scales)
    return Offspring(grown, parents, is_new)
