"""The layer that refines rendered latents (ED-NeRF, Park et al. 2023, arXiv:2310.02712).

An autoencoder's latent of a pixel depends on the picture around it, so the latents of one place differ from view to
view, and no field shows them all. What differs is left to a network on the whole map of a view: convolutions with
residuals, and self-attention.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import ConfigError

GROUPS = 8
"""Groups of the normalisation; a width is a multiple of them."""


class Refiner(nn.Module):
    """Latents as a field shows them to latents as the autoencoder gives them; at the start it changes nothing.

    Args:
        channels: Of a latent.
        width: Channels inside, a multiple of ``groups``.
        groups: Of the normalisation.
    """

    def __init__(self, channels: int, width: int, groups: int = GROUPS) -> None:
        from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D  # seconds, and no other field needs it

        super().__init__()
        self.channels, self.width, self.groups = channels, width, groups
        self.conv_in = nn.Conv2d(channels, width, 3, padding=1)
        self.mid_block = UNetMidBlock2D(width, None, resnet_groups=groups, attention_head_dim=width)  # pyright: ignore[reportArgumentType]  # no timestep
        self.conv_out = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # pyright: ignore[reportArgumentType]  # there is one

    def forward(self, latents: Float[Tensor, "b d zh zw"]) -> Float[Tensor, "b d zh zw"]:
        """The latents, and what was learned to be added."""
        return latents + self.conv_out(self.mid_block(self.conv_in(latents)))

    @staticmethod
    def drawn(channels: int, width: int, draws: torch.Generator) -> "Refiner":
        """One with random weights inside.

        Args:
            channels: Of a latent.
            width: Channels inside.
            draws: Decides the weights.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(draws.initial_seed())
            return Refiner(channels, width)

    @staticmethod
    def of_decoder(channels: int, vae: Any, draws: torch.Generator) -> "Refiner":
        """One as wide as the first layers of an autoencoder's decoder, with their weights inside.

        Args:
            channels: Of a latent.
            vae: An ``AutoencoderKL`` of diffusers.
            draws: Decides the weights of layers that the decoder lacks.

        Raises:
            ConfigError: If it has no such layers.
        """
        decoder = vae.decoder
        if not hasattr(decoder, "mid_block"):
            what, fix = "this autoencoder's decoder has no middle block", "set system.refiner_width=64"
            raise ConfigError(what=what, expected="an AutoencoderKL, or a width", fix=fix)
        groups = decoder.mid_block.resnets[0].norm1.num_groups
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(draws.initial_seed())
            refiner = Refiner(channels, decoder.conv_in.out_channels, groups)
        for name in ("conv_in", "mid_block"):
            getattr(refiner, name).load_state_dict(getattr(decoder, name).float().state_dict(), strict=False)
        return refiner
