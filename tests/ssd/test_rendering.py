"""The one call of the rasteriser: several cameras at once are the single renders, in values and gradients."""

import pytest
import torch

from tests.edit_world import toy_cameras, toy_parts
from threestudio_ssd.gaussians import Gaussians
from threestudio_ssd.rendering import coverage, render, render_each

BACKGROUND = torch.tensor([0.2, 0.4, 0.6])


@pytest.fixture(scope="module")
def scene():
    return toy_parts(keep_every=8)[0]


def with_directions(gaussians: Gaussians, sh_degree: int) -> Gaussians:
    """The same with colours that change with the direction they are seen from."""
    wide = gaussians.with_sh_degree(sh_degree)
    noise = torch.randn(wide.shN.shape, generator=torch.Generator().manual_seed(0))
    return wide.replace(shN=0.3 * noise)


@pytest.mark.parametrize("sh_degree", [0, 1, 3])
def test_three_cameras_are_three_single_renders(scene, sh_degree):
    gaussians, cameras = with_directions(scene, sh_degree), toy_cameras(3, 24)
    images, alphas = render(gaussians, cameras, BACKGROUND)
    assert images.shape == (3, 24, 24, 3)
    assert alphas.shape == (3, 24, 24, 1)
    for index in range(3):
        image, alpha = render(gaussians, cameras[index], BACKGROUND)
        torch.testing.assert_close(images[index], image[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(alphas[index], alpha[0], rtol=1e-5, atol=1e-6)
    assert (images[0] - images[1]).abs().mean() > 1e-3


def test_three_cameras_with_given_colours(scene):
    cameras = toy_cameras(3, 24)
    colors = torch.rand(len(scene), 2, generator=torch.Generator().manual_seed(0))
    images, _ = render(scene, cameras, torch.zeros(2), colors)
    for index in range(3):
        image, _ = render(scene, cameras[index], torch.zeros(2), colors)
        torch.testing.assert_close(images[index], image[0], rtol=1e-5, atol=1e-6)


def test_gradients_of_three_cameras_are_the_sum_of_the_single_ones(scene):
    cameras = toy_cameras(3, 24)
    weights = torch.randn(3, 24, 24, 3, generator=torch.Generator().manual_seed(1))

    def gradients(rows):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in scene.parameters().items()}
        images, _ = render(Gaussians(**leaves), cameras[rows], BACKGROUND)
        (images * weights[rows]).sum().backward()
        return {name: leaf.grad for name, leaf in leaves.items() if leaf.numel()}

    whole, single = gradients([0, 1, 2]), [gradients([row]) for row in range(3)]
    for name, gradient in whole.items():
        torch.testing.assert_close(gradient, sum(part[name] for part in single), rtol=1e-3, atol=1e-3)
        assert gradient.abs().max() > 0


def test_the_background_shows_where_nothing_is(scene):
    nothing = scene.replace(logit_opacities=torch.full((len(scene),), -30.0))
    images, alphas = render(nothing, toy_cameras(2, 16), BACKGROUND)
    torch.testing.assert_close(images, BACKGROUND.expand_as(images))
    assert alphas.abs().max() == 0


def test_render_each_takes_cameras_of_several_sizes_and_clamps(scene):
    from threestudio_ssd.cameras.cameras import concatenate

    cameras = concatenate([toy_cameras(1, 16), toy_cameras(1, 24).resized(32, 24)])
    bright = scene.replace(sh0=scene.sh0 + 20)
    images = list(render_each(bright, cameras, BACKGROUND))
    assert [tuple(image.shape) for image in images] == [(16, 16, 3), (24, 32, 3)]
    assert max(float(image.max()) for image in images) == 1.0


def test_coverage_of_all_is_alpha_and_of_parts_adds_up():
    gaussians, is_object = toy_parts(keep_every=8)
    cameras = toy_cameras(2, 24)
    _, alphas = render(gaussians, cameras, BACKGROUND)
    everything = coverage(gaussians, torch.ones_like(is_object), cameras)
    torch.testing.assert_close(everything, alphas[..., 0], rtol=1e-4, atol=1e-5)
    parts = coverage(gaussians, is_object, cameras) + coverage(gaussians, ~is_object, cameras)
    torch.testing.assert_close(parts, everything, rtol=1e-4, atol=1e-5)
