"""Small fields of latents, and an autoencoder that counts what it is asked."""

import torch

from tests.field_world import ball_field


def latent_space(channels=4, width=8, downscale=4, size=24, decode=None, checksum="0" * 64):
    """What the latents of a test mean: a refining layer that changes them a little."""
    from threestudio_ssd.fields import AutoencoderName, LatentSpace, Refiner

    refiner = Refiner.drawn(channels, width, torch.Generator().manual_seed(0))
    with torch.no_grad():
        refiner.conv_out.weight.normal_(0, 0.05, generator=torch.Generator().manual_seed(1))
    behind = torch.linspace(-0.5, 0.5, channels)
    name = AutoencoderName(checksum, "data/tiny-ldm")
    return LatentSpace(name, downscale, size, behind, refiner.requires_grad_(False), decode)


def latent_ball(resolution=13, **space):
    """The ball of ``field_world`` with a latent at each node that follows its place."""
    from threestudio_ssd.fields import LatentField

    ball, meaning = ball_field(resolution), latent_space(**space)
    turn = torch.randn(3, len(meaning.behind), generator=torch.Generator().manual_seed(2))
    latents = (ball.means @ turn)[:, None]
    return LatentField(
        ball.lattice, ball.raw_densities, latents, latents.new_zeros(len(ball), 0, latents.shape[2]), space=meaning
    )
