"""One affine map of all colours: found, and carried over to Gaussians with what depends on the view."""

import pytest
import torch

from tests.edit_world import toy_cameras, toy_parts
from threestudio_ssd.refits.color_transform import color_transform, with_colors_transformed
from threestudio_ssd.rendering import render_bchw

MATRIX, OFFSET = torch.tensor([[0.1, 0.8, 0.0], [0.0, 0.2, 0.7], [0.6, 0.0, 0.3]]), torch.tensor([0.05, 0.0, 0.1])


def colors(count=500):
    """Evenly spread in the unit cube."""
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(0))


def test_the_map_of_a_tint_is_found():
    matrix, offset = color_transform(colors(), colors() @ MATRIX.T + OFFSET)
    assert torch.allclose(matrix, MATRIX, atol=0.02)
    assert torch.allclose(offset, OFFSET, atol=0.02)


def test_colors_that_stay_stay():
    matrix, offset = color_transform(colors(), colors())
    assert torch.allclose(matrix, torch.eye(3), atol=1e-5)
    assert torch.allclose(offset, torch.zeros(3), atol=1e-5)


def test_one_color_alone_is_moved_and_not_turned():
    red, blue = torch.tensor([[0.8, 0.1, 0.1]]).repeat(40, 1), torch.tensor([[0.1, 0.1, 0.8]]).repeat(40, 1)
    matrix, offset = color_transform(red, blue)
    assert torch.allclose(matrix, torch.eye(3), atol=1e-5)
    assert torch.allclose(red[0] @ matrix.T + offset, blue[0], atol=1e-5)


@pytest.mark.parametrize("degree", [0, 2])
def test_a_render_of_tinted_gaussians_is_the_tinted_render(degree):
    """Where nothing is see-through or clamped, since the offset belongs to what is there."""
    scene, _ = toy_parts()
    scene = scene.with_sh_degree(degree)
    noise = 0.02 * torch.randn(scene.shN.shape, generator=torch.Generator().manual_seed(1))
    scene = scene.replace(sh0=0.5 * scene.sh0, shN=noise)
    matrix = torch.eye(3) + 0.2 * (MATRIX - torch.eye(3))
    views = toy_cameras(2)
    before = render_bchw(scene, views, torch.zeros(3))
    after = render_bchw(with_colors_transformed(scene, matrix, torch.zeros(3)), views, torch.zeros(3))
    assert torch.allclose(after, torch.einsum("ij,bjhw->bihw", matrix, before), atol=1e-3)
