"""What the canvas shows: splats as viser takes them, the two halves of a comparison, depth in colours."""

import numpy as np
import torch

from tests.edit_world import toy_parts
from threestudio_ssd.masks import TINT, TINT_STRENGTH
from threestudio_ssd.viewer.splats import splats_of
from threestudio_ssd.viewer.stage import beside, depth_picture


def test_splats_have_the_covariance_of_their_scales_and_turns():
    gaussians, is_object = toy_parts(60)
    splats = splats_of(gaussians)
    sizes = np.sort(np.linalg.eigvalsh(splats.covariances.astype(np.float64)), axis=1)
    wanted = np.sort(gaussians.scales.double().numpy() ** 2, axis=1)
    np.testing.assert_allclose(sizes, wanted, rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(splats.opacities[:, 0], gaussians.opacities.numpy())
    tinted = splats_of(gaussians, is_object)
    chosen = is_object.numpy()
    mixed = splats.rgbs[chosen] * (1 - TINT_STRENGTH) + np.asarray(TINT) * TINT_STRENGTH
    np.testing.assert_allclose(tinted.rgbs[chosen], mixed, atol=1e-6)
    np.testing.assert_array_equal(tinted.rgbs[~chosen], splats.rgbs[~chosen])


def test_the_split_has_one_scene_on_each_side():
    before, after = torch.zeros(4, 10, 3), torch.full((4, 10, 3), 0.5)
    image = beside(before, after, 0.4)
    assert (image[:, :3] == 0).all()
    assert (image[:, 3:5] == 1).all()
    assert (image[:, 5:] == 0.5).all()
    assert (beside(before, after, 0.0)[:, 1:] == 0.5).all()
    assert (beside(before, after, 1.0)[:, :-1] == 0).all()


def test_depth_goes_from_red_to_blue_and_is_black_where_nothing_is():
    depths = torch.linspace(2, 6, 100).expand(5, -1)
    alphas = torch.ones(5, 100)
    alphas[0] = 0
    picture, (near, far) = depth_picture(depths, alphas)
    assert (picture[0] == 0).all()
    assert picture[1, 4, 0] > picture[1, 4, 2]
    assert picture[1, -5, 2] > picture[1, -5, 0]
    assert 2 <= near < 2.2
    assert 5.8 < far <= 6
    assert depth_picture(depths, torch.zeros(5, 100))[1] == (0.0, 0.0)
