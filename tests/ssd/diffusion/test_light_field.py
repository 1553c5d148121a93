"""The light field that a map of rays shows the U-Net."""

import math

import pytest
import torch
from torch.nn.functional import avg_pool2d

from threestudio_ssd.cameras.rays import ObjectFrame, ObjectViews
from threestudio_ssd.diffusion.light_field import (
    BOTTOM,
    FINER,
    RADIUS,
    RAYS_A_SIDE,
    TOP,
    LightField,
    blending_weights,
    camera_axes,
    cell_means,
    crossing,
    grid_of_rays,
)
from threestudio_ssd.toyworld.views import held_out_orbit

SIZE, NUM_VIEWS = (8, 8), 3


def field(num_source_channels=4):
    torch.manual_seed(0)
    return LightField(4, num_source_channels, 32)


def rays(num_views=NUM_VIEWS, size=SIZE):
    frame = ObjectFrame(torch.eye(3), torch.zeros(3), 5.45)
    return ObjectViews(held_out_orbit(64, num_views), frame).passing(grid_of_rays(size))


def given(num_source_channels=4):
    generator = torch.Generator().manual_seed(1)
    shapes = (NUM_VIEWS, num_source_channels, *SIZE), (NUM_VIEWS, 5, 32)
    return [rays(), *(torch.randn(shape, generator=generator) for shape in shapes)]


@torch.no_grad()
@pytest.mark.parametrize("num_source_channels", [0, 4])
def test_each_view_is_seen_for_itself(num_source_channels):
    network, inputs = field(num_source_channels), given(num_source_channels)
    whole = network(*inputs)
    assert whole.latents.shape == (NUM_VIEWS, 4, *SIZE)
    assert whole.covered.shape == (NUM_VIEWS, 1, *(FINER * side for side in SIZE))
    for view in range(NUM_VIEWS):
        alone = network(*(each[view : view + 1] for each in inputs))
        for one, each in zip(alone, whole, strict=True):
            torch.testing.assert_close(one[0], each[view], atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("place", range(3), ids=["rays", "sources", "words"])
def test_rays_sources_and_words_change_what_is_seen(place):
    network, inputs = field(), given()
    before = network(*inputs)
    inputs[place] = inputs[place].flip(0)
    assert all((now - then)[0].abs().mean() > 1e-3 for now, then in zip(network(*inputs), before, strict=True))


@torch.no_grad()
def test_a_view_that_passes_the_object_sees_the_ground_alone():
    """Rays that all look away from the cylinder have no points to look at."""
    network, (_, sources, words) = field(), given()
    away = rays().clone()
    away[:, 3:6] = torch.tensor([5.0, 5.0, 0.0])[:, None, None]
    assert all(torch.isfinite(each).all() for each in network(away, sources, words))


@torch.no_grad()
def test_half_precision_sees_nearly_the_same():
    """Places along rays are worked out in single precision."""
    network, (way, *others) = field(), given()
    exact = network(way, *others).latents
    rough = network.bfloat16()(way, *(each.bfloat16() for each in others)).latents
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).pow(2).mean() < 1e-3 * exact.pow(2).mean()


def test_rays_are_inside_the_cylinder_between_where_they_enter_and_leave_it():
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(4000, 3, generator=generator), dim=-1)
    nearest = 0.3 * torch.randn(4000, 3, generator=generator)
    nearest -= (nearest * directions).sum(-1, keepdim=True) * directions
    near, far = crossing(directions, nearest)
    depths = torch.linspace(-2, 2, 401)
    points = nearest[:, None] + depths[:, None] * directions[:, None]
    is_inside = (points[..., :2].norm(dim=-1) < RADIUS) & (points[..., 2] > BOTTOM) & (points[..., 2] < TOP)
    is_between = (depths > near[:, None]) & (depths < far[:, None])
    assert (is_inside != is_between).float().mean() < 1e-4
    assert 0.2 < (far > near).float().mean() < 0.8


def test_what_is_in_front_hides_what_is_behind():
    clear, thick = math.log(2.0), 50.0
    densities = torch.tensor([[0.0, clear, thick, thick], [0.0, 0.0, clear, 0.0]])[..., None]
    expected = torch.tensor([[0.0, 0.5, 0.5, 0.0], [0.0, 0.0, 0.5, 0.0]])[..., None]
    torch.testing.assert_close(blending_weights(densities), expected, atol=1e-5, rtol=0)


def test_it_learns_where_things_are_from_some_sides_and_shows_them_from_others():
    """A ball for one word, a disc on the ground for another: twelve views teach, four others are asked for."""
    network = field(0)
    words = torch.eye(2)[:, None].repeat(1, 5, 16)

    def seen(way):
        """The two things along rays; how near the middle of a ray passes decides, softly."""
        directions, nearest = (part.movedim(1, -1) for part in (way[:, :3], way[:, 3:6]))
        middle = torch.tensor([0.0, 0.0, 0.2])
        apart = torch.linalg.cross(nearest - middle, directions).norm(dim=-1)
        ground = nearest - nearest[..., 2:] / directions[..., 2:] * directions
        both = torch.stack([0.2 - apart, 0.25 - ground[..., :2].norm(dim=-1)])
        return avg_pool2d((30 * both).sigmoid(), RAYS_A_SIDE)[:, :, None].expand(-1, -1, 4, -1, -1)

    def shown_by(way):
        both = way.repeat(2, 1, 1, 1)
        return network(both, avg_pool2d(both, RAYS_A_SIDE)[:, :0], words.repeat_interleave(4, 0)).latents

    every = rays(16, (12, 12))
    taught, asked = every[torch.arange(16) % 4 > 0], every[::4]
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for step in range(200):
        way = taught[torch.randperm(12, generator=torch.Generator().manual_seed(step))[:4]]
        shown = shown_by(way)
        loss = (shown - seen(way).flatten(0, 1)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        shown = shown_by(asked)
    truth = seen(asked).flatten(0, 1)
    error, spread = (shown - truth).pow(2).mean(), (truth - truth.mean()).pow(2).mean()
    assert error < 0.1 * spread


def test_the_axes_of_cameras_are_found_by_their_rays():
    cameras = held_out_orbit(64, NUM_VIEWS)
    axes = camera_axes(cell_means(rays())[:, :3].movedim(1, -1))
    torch.testing.assert_close(axes, cameras.viewmats[:, :3, :3], atol=2e-3, rtol=0)


@torch.no_grad()
def test_the_light_turns_with_the_frame():
    """The same views in a frame that is turned about its upright axis show the same light, from elsewhere there."""
    network, (_, sources, _) = field(), given()
    network.light.last.weight.normal_()
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    cameras = held_out_orbit(64, NUM_VIEWS)
    found = []
    for axes in (torch.eye(3), turn):
        way = ObjectViews(cameras, ObjectFrame(axes, torch.zeros(3), 5.45)).passing(grid_of_rays(SIZE))
        found.append(network.light_of(way, sources))
    assert found[0].norm(dim=-1).min() > 0.1
    torch.testing.assert_close(found[0] @ turn.T, found[1], atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_side_that_the_light_falls_on_is_another_one_with_another_light():
    network, inputs = field(), given()
    lights = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).repeat_interleave(NUM_VIEWS, 0).split(NUM_VIEWS)
    network.control.layers[0].weight[:, -3:] = 0  # which lets words do it as well
    torch.testing.assert_close(*(network(*inputs, light).latents for light in lights))
    network.lit.weight.normal_()
    east, south = (network(*inputs, light) for light in lights)
    assert (east.latents - south.latents).abs().mean() > 1e-4
    torch.testing.assert_close(east.covered, network(*inputs, lights[0]).covered)
