"""The light field that a map of rays shows the U-Net."""

import pytest
import torch

from threestudio_ssd.diffusion.light_field import LightField

SIZE, NUM_VIEWS = (8, 8), 3


def field(num_source_channels=4):
    torch.manual_seed(0)
    return LightField(35, 4, num_source_channels, 32)


def given(num_source_channels=4):
    generator = torch.Generator().manual_seed(1)
    shapes = (NUM_VIEWS, 35, *SIZE), (NUM_VIEWS, num_source_channels, *SIZE), (NUM_VIEWS, 5, 32)
    return [torch.randn(shape, generator=generator) for shape in shapes]


@torch.no_grad()
@pytest.mark.parametrize("num_source_channels", [0, 4])
def test_each_view_is_seen_for_itself(num_source_channels):
    network, inputs = field(num_source_channels), given(num_source_channels)
    whole = network(*inputs)
    assert whole.shape == (NUM_VIEWS, 4, *SIZE)
    for view in range(NUM_VIEWS):
        alone = network(*(each[view : view + 1] for each in inputs))
        torch.testing.assert_close(alone[0], whole[view], atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("place", range(3), ids=["rays", "sources", "words"])
def test_rays_sources_and_words_change_what_is_seen(place):
    network, inputs = field(), given()
    before = network(*inputs)
    inputs[place] = inputs[place].flip(0)
    assert (network(*inputs) - before)[0].abs().mean() > 1e-3


def test_it_learns_what_words_look_like_along_rays():
    """A disc for one word and its outside for another, by the rays alone."""
    network = field(0)
    columns, rows = torch.meshgrid(torch.linspace(-1, 1, 8), torch.linspace(-1, 1, 8), indexing="xy")
    rays = torch.zeros(2, 35, *SIZE)
    rays[:, 0], rays[:, 1] = columns, rows
    disc = ((columns**2 + rows**2) < 0.5).float().expand(4, *SIZE)
    truth, words = torch.stack([disc, 1 - disc]), torch.eye(2)[:, None].repeat(1, 5, 16)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(150):
        loss = (network(rays, rays[:, :0], words) - truth).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.02
