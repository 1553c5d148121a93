"""The map of rays beside a U-Net's first layer."""

import pytest
import torch

from threestudio_ssd.cameras.rays import ObjectFrame, ObjectViews
from threestudio_ssd.diffusion.light_field import grid_of_rays
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.diffusion.ray_map import RayMap, rays_seen
from threestudio_ssd.toyworld.views import held_out_orbit

NUM_VIEWS, SIZE = 3, (8, 8)


@pytest.fixture(scope="module")
def unet():
    return random_components(image_size=64).network


@pytest.fixture
def latents():
    return torch.randn(NUM_VIEWS, 4, *SIZE, generator=torch.Generator().manual_seed(1))


def rays(center=(0.0, 0.0, 0.0), unit=5.4):
    frame = ObjectFrame(torch.eye(3), torch.tensor(center), unit)
    return ObjectViews(held_out_orbit(64, NUM_VIEWS), frame).passing(grid_of_rays(SIZE))


def stirred(unet):
    """A map that says something."""
    torch.manual_seed(0)
    ray_map = RayMap(unet)
    for layer in (ray_map.last, ray_map.seen):
        torch.nn.init.normal_(layer.weight, std=0.2)
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
    assert torch.equal(predicted(unet, latents, (RayMap(unet), rays())), plain)
    told = predicted(unet, latents, (stirred(unet), rays()))
    assert (told - plain).abs().amax(dim=(1, 2, 3)).min() > 1e-3
    assert torch.equal(predicted(unet, latents), plain), "the network has to be as it was afterwards"


def test_each_view_is_told_its_own_rays_and_of_one_object(unet, latents):
    ray_map = stirred(unet)
    whole = predicted(unet, latents, (ray_map, rays()))
    for view in range(NUM_VIEWS):
        alone = predicted(unet, latents[view : view + 1], (ray_map, rays()[view : view + 1]))
        torch.testing.assert_close(alone[0], whole[view], atol=1e-4, rtol=1e-3)
    assert not torch.allclose(predicted(unet, latents, (ray_map, rays(center=(0.5, 0.0, 0.0)))), whole, atol=1e-3)
    assert not torch.allclose(predicted(unet, latents, (ray_map, rays(unit=4.0))), whole, atol=1e-3)


def test_the_same_views_with_no_prompt_are_told_nothing(unet, latents):
    both = predicted(unet, torch.cat([latents, latents]), (stirred(unet), rays()))
    plain, told = predicted(unet, latents), predicted(unet, latents, (stirred(unet), rays()))
    torch.testing.assert_close(both[:NUM_VIEWS], told, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(both[NUM_VIEWS:], plain, atol=1e-5, rtol=1e-4)


def test_a_view_that_is_told_nothing_is_drawn_as_without_the_map(unet, latents):
    shares = torch.tensor([1.0, 0.0, 1.0])
    told, plain = predicted(unet, latents, (stirred(unet), rays()), shares), predicted(unet, latents)
    torch.testing.assert_close(told[1], plain[1], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(told[0], plain[0], atol=1e-3)


def texts(seed):
    return torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(seed)).expand(NUM_VIEWS, -1, -1)


@torch.no_grad()
def test_what_is_told_is_worked_out_once_for_all_noise_levels_and_anew_for_other_words(unet, latents):
    ray_map, calls = stirred(unet), []
    ray_map.register_forward_hook(lambda *_: calls.append(1))
    with rays_seen(unet, ray_map, rays()):
        first = [unet(latents, t, texts(2)).sample for t in (900, 500, 100)]
        assert len(calls) == 1
        other = unet(latents, 500, encoder_hidden_states=texts(3)).sample
        assert len(calls) == 2
    torch.testing.assert_close(first[1], predicted(unet, latents, (ray_map, rays())))
    assert not torch.allclose(other, first[1], atol=1e-3)


def test_the_light_field_is_trained_for_itself_alone(unet, latents):
    ray_map = stirred(unet)
    with rays_seen(unet, ray_map, rays()):
        unet(latents, 500, texts(2)).sample.sum().backward()
    assert all(parameter.grad is None for parameter in ray_map.field.parameters())
    assert ray_map.seen.weight.grad.abs().max() > 0
    assert ray_map.first.weight.grad.abs().max() > 0
