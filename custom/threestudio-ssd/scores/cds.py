"""Contrastive denoising score: a regulariser of the layout, added to DDS or SSD."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d, cross_entropy, normalize

from .branches import Branch


@dataclass(frozen=True)
class CDS:
    """Contrastive denoising score (Nam et al. 2024, arXiv:2311.18608, Eq. 8; patch contrast of CUT, arXiv:2007.15651).

    At random places of each self-attention map, the source's feature has to find the target's feature of the same
    place among those of the other places. What is fed back to the latents is the gradient of this energy, through
    the network. It does not vanish in general, not even where both images agree: it then holds places apart.
    """

    weight: float = 3.0
    """Weight of the energy, beside a delta score that enters its loss times ``delta_factor`` / (zh zw)."""
    num_patches: int = 256
    """Places drawn in each map, at most; >= 2 to have a contrast."""
    patch_sizes: tuple[int, ...] = (1, 2)
    """Sides of the patches that are averaged, cells of the map."""
    temperature: float = 0.07
    """tau of the softmax, > 0."""
    delta_factor: float = 2000.0
    """The published loss is delta_factor / (zh zw) sum(z delta) + weight energy; here the delta's factor is 1."""

    branches: ClassVar = (Branch("src", "src"), Branch("tgt", "tgt"))

    def __call__(
        self,
        maps_src: Sequence[Float[Tensor, "b _ _ _"]],
        maps_tgt: Sequence[Float[Tensor, "b _ _ _"]],
        *,
        num_cells: int,
        generator: torch.Generator,
    ) -> Float[Tensor, "b"]:
        """The energy of each view; its gradient is to be added to the score.

        Args:
            maps_src: Self-attention outputs of (z_src, y_src), (b c h w) each; taken as constants.
            maps_tgt: The same of (z, y), attached to the graph.
            num_cells: zh zw of the latents.
            generator: Draws the places, the same for all views.
        """
        energy = torch.zeros(len(maps_tgt[0]), device=maps_tgt[0].device)
        for map_src, map_tgt in zip(maps_src, maps_tgt, strict=True):
            for size in self.patch_sizes:
                source, target = (patches(each.float(), size) for each in (map_src.detach(), map_tgt))
                places = torch.randperm(target.shape[-1], generator=generator)[: self.num_patches].to(target.device)
                energy = energy + patch_contrast(source, target, places, self.temperature)
        return self.weight * num_cells / self.delta_factor * energy


def patches(features: Float[Tensor, "b c h w"], size: int) -> Float[Tensor, "b c n"]:
    """Means of the size x size patches, one column each; a side shorter than that is one patch."""
    sides = [min(size, side) for side in features.shape[-2:]]
    return avg_pool2d(features, sides).flatten(2)


def patch_contrast(
    source: Float[Tensor, "b c n"], target: Float[Tensor, "b c n"], places: Int[Tensor, "p"], temperature: float
) -> Float[Tensor, "b"]:
    """Mean over places i of -log softmax_j(cos(source_i, target_j) / tau) at j = i; negatives are the view's own."""
    source, target = (normalize(each[..., places], dim=1) for each in (source, target))
    logits = source.mT @ target / temperature
    labels = torch.arange(len(places), device=logits.device).expand(len(logits), -1)
    return cross_entropy(logits.mT, labels, reduction="none").mean(dim=1)
