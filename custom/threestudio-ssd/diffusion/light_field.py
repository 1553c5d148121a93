"""What the ray through each cell of an image meets, told by words: a light field in latents.

A light field gives a colour for a ray, and one network can hold those of many things (Sitzmann et al. 2021,
arXiv:2106.02634). Here it gives latents, by the words of the prompt, and by the view before the edit, which says what
stands around and how large things are.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu, unfold

WIDTH, NUM_LAYERS = 128, 4
NUM_QUERIES = 4
"""Places in the text that are looked at."""
CONTROL_WIDTH = 256
FIRST_SHARE = 0.3
"""Layers start at so much of the usual weights, since each is added to what is there."""


class LightField(nn.Module):
    """Latents of a view, cell by cell, from rays; words and the view before set the gains of each layer.

    Args:
        num_ray_channels: Numbers that say a cell's ray.
        num_channels: Of the latents.
        num_source_channels: Of the latents of the view before; 0: it is not seen.
        text_width: Of a token's embedding.
    """

    def __init__(self, num_ray_channels: int, num_channels: int, num_source_channels: int, text_width: int) -> None:
        super().__init__()
        self.first = nn.Linear(num_ray_channels + 9 * num_source_channels, WIDTH)
        self.queries = nn.Parameter(0.1 * torch.randn(NUM_QUERIES, text_width))
        self.keys = nn.Linear(text_width, text_width)
        self.control = nn.Sequential(
            nn.Linear(NUM_QUERIES * text_width + WIDTH, CONTROL_WIDTH),
            nn.SiLU(),
            nn.Linear(CONTROL_WIDTH, NUM_LAYERS * 2 * WIDTH),
        )
        self.into = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(NUM_LAYERS))
        outs = [nn.Linear(WIDTH, WIDTH) for _ in range(NUM_LAYERS)]
        self.out = nn.ModuleList(outs)
        self.last = nn.Linear(WIDTH, num_channels)
        for linear in outs:
            linear.weight.data *= FIRST_SHARE

    def forward(
        self,
        rays: Float[Tensor, "b f zh zw"],
        sources: Float[Tensor, "b s zh zw"],
        embeds: Float[Tensor, "b l w"],
    ) -> Float[Tensor, "b c zh zw"]:
        """Scaled latents of what is seen.

        Args:
            rays: ``ray_map.ray_channels``.
            sources: Latents of the view before, as the U-Net gets them.
            embeds: Of the prompt's tokens.
        """
        around = unfold(sources, 3, padding=1) if sources.shape[1] else sources.flatten(2)
        cells = self.first(torch.cat([rays.flatten(2), around], dim=1).mT)
        looked_at = (self.queries @ self.keys(embeds).mT * embeds.shape[-1] ** -0.5).softmax(-1) @ embeds
        control = self.control(torch.cat([looked_at.flatten(1), silu(cells).mean(1)], dim=1))
        for into, out, own in zip(self.into, self.out, control.chunk(NUM_LAYERS, dim=1), strict=True):
            gains, shifts = own[:, None].chunk(2, dim=-1)
            cells = cells + out(silu(into(silu(cells)) * (1 + gains) + shifts))
        return self.last(silu(cells)).mT.unflatten(2, rays.shape[-2:])
