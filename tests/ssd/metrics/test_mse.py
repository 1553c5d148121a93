"""MSE against numpy in double precision, in both meanings of a mask."""

import numpy as np
import torch

from threestudio_ssd.metrics import mse


def test_agrees_with_numpy(pictures, noise):
    changed = (pictures + 0.05 * noise).clamp(0, 1)
    expected = ((changed.double().numpy() - pictures.double().numpy()) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(mse(changed, pictures).numpy(), expected, rtol=1e-5)


def test_a_worse_edit_scores_higher(pictures, noise, toy_pairs):
    values = [mse((pictures + level * noise).clamp(0, 1), pictures) for level in (0, 0.01, 0.03, 0.1)]
    assert (values[0] == 0).all()
    for better, worse in zip(values, values[1:], strict=False):
        assert (better < worse).all()
    near = (toy_pairs.targets + 0.05 * torch.randn(toy_pairs.targets.shape)).clamp(0, 1)
    assert (mse(near, toy_pairs.targets) < mse(toy_pairs.wrongs, toy_pairs.targets)).all()


def test_region_averages_over_the_masked_pixels_alone(pictures):
    masks = torch.zeros(2, 48, 48, dtype=torch.bool)
    masks[:, :12] = True
    changed = pictures.clone()
    changed[:, :, :12] += 0.1
    torch.testing.assert_close(mse(changed, pictures, masks), torch.full((2,), 0.01), rtol=1e-4, atol=0)
    torch.testing.assert_close(mse(changed, pictures, ~masks), torch.zeros(2), rtol=0, atol=0)


def test_zeroed_averages_over_all_pixels(pictures):
    masks = torch.zeros(2, 48, 48, dtype=torch.bool)
    masks[:, :12] = True
    changed = pictures + 0.1
    value = mse(changed, pictures, masks, mask_mode="zeroed")
    torch.testing.assert_close(value, torch.full((2,), 0.01 / 4), rtol=1e-4, atol=0)


def test_an_empty_region_is_no_score(pictures):
    masks = torch.zeros(2, 48, 48)
    masks[1] = 1
    value = mse(pictures, pictures, masks)
    assert value[0].isnan()
    assert value[1] == 0
