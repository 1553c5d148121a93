"""The map of rays beside a U-Net's first layer."""

import pytest
import torch

from threestudio_ssd.cameras.rays import ObjectFrame, ObjectViews
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.diffusion.ray_map import RayMap, ray_channels, rays_seen
from threestudio_ssd.toyworld.views import held_out_orbit

NUM_VIEWS, SIZE = 3, (8, 8)


@pytest.fixture(scope="module")
def unet():
    return random_components(image_size=64).network


@pytest.fixture
def latents():
    return torch.randn(NUM_VIEWS, 4, *SIZE, generator=torch.Generator().manual_seed(1))


def channels(center=(0.0, 0.0, 0.0), unit=5.4):
    frame = ObjectFrame(torch.eye(3), torch.tensor(center), unit)
    return ray_channels(ObjectViews(held_out_orbit(64, NUM_VIEWS), frame).passing(SIZE), SIZE)


def stirred(unet):
    """A map that says something."""
    torch.manual_seed(0)
    ray_map = RayMap(unet)
    torch.nn.init.normal_(ray_map.last.weight, std=0.2)
    return ray_map


@torch.no_grad()
def predicted(unet, latents, told=None, shares=None):
    texts = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(2)).expand(len(latents), -1, -1)
    if told is None:
        return unet(latents, 500, texts).sample
    with rays_seen(unet, told[0], told[1], shares):
        return unet(latents, 500, texts).sample


def test_a_new_map_changes_nothing_and_another_does(unet, latents):
    plain = predicted(unet, latents)
    assert torch.equal(predicted(unet, latents, (RayMap(unet), channels())), plain)
    told = predicted(unet, latents, (stirred(unet), channels()))
    assert (told - plain).abs().amax(dim=(1, 2, 3)).min() > 1e-3
    assert torch.equal(predicted(unet, latents), plain), "the network has to be as it was afterwards"


def test_each_view_is_told_its_own_rays_and_of_one_object(unet, latents):
    ray_map = stirred(unet)
    whole = predicted(unet, latents, (ray_map, channels()))
    for view in range(NUM_VIEWS):
        alone = predicted(unet, latents[view : view + 1], (ray_map, channels()[view : view + 1]))
        torch.testing.assert_close(alone[0], whole[view], atol=1e-4, rtol=1e-3)
    assert not torch.allclose(predicted(unet, latents, (ray_map, channels(center=(0.5, 0.0, 0.0)))), whole, atol=1e-3)
    assert not torch.allclose(predicted(unet, latents, (ray_map, channels(unit=4.0))), whole, atol=1e-3)


def test_a_batch_may_hold_the_views_once_for_each_prompt(unet, latents):
    ray_map = stirred(unet)
    both = predicted(unet, torch.cat([latents, latents]), (ray_map, channels()))
    torch.testing.assert_close(both[:NUM_VIEWS], both[NUM_VIEWS:], atol=1e-5, rtol=0)


def test_a_view_that_is_told_nothing_is_drawn_as_without_the_map(unet, latents):
    shares = torch.tensor([1.0, 0.0, 1.0])
    told, plain = predicted(unet, latents, (stirred(unet), channels()), shares), predicted(unet, latents)
    torch.testing.assert_close(told[1], plain[1], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(told[0], plain[0], atol=1e-3)
