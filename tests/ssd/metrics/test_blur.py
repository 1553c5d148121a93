"""Gaussian blur: flat stays flat, mass stays, and it is SciPy's."""

import pytest
import torch
from scipy.ndimage import gaussian_filter

from threestudio_ssd.metrics import gaussian_blur
from threestudio_ssd.metrics.blur import _filtered, _kernel, _shifted_sums


def test_flat_images_stay_as_they_are():
    images = torch.full((2, 3, 20, 24), 0.3)
    assert torch.allclose(gaussian_blur(images, 2.0), images, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.0])
def test_it_is_the_usual_filter_with_mirrored_edges(sigma, generator):
    images = torch.rand(2, 3, 20, 24, generator=generator, dtype=torch.float64)
    usual = gaussian_filter(images.numpy(), (0, 0, sigma, sigma), mode="mirror", radius=round(3 * sigma))
    assert torch.allclose(gaussian_blur(images, sigma), torch.from_numpy(usual), atol=1e-12)
    assert torch.allclose(gaussian_blur(images, sigma, 2 * round(3 * sigma) + 1), torch.from_numpy(usual), atol=1e-12)


@pytest.mark.parametrize("is_mirrored", [True, False])
def test_other_devices_make_the_same(is_mirrored, generator):
    images = torch.rand(2, 3, 20, 24, generator=generator)
    kernel = _kernel(1.5, 11)
    both = (filtered(images, kernel, is_mirrored=is_mirrored) for filtered in (_shifted_sums, _filtered))
    torch.testing.assert_close(*both)


@pytest.mark.parametrize(("sigma", "window"), [(1.5, 11), (0.8, None)])
def test_its_gradient_is_the_way_back(sigma, window):
    images = torch.rand(1, 2, 12, 13, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda each: gaussian_blur(each, sigma, window), images)
