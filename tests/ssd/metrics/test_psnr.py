"""PSNR against torchmetrics; worse is lower; equal is infinite."""

import torch
from torchmetrics.functional.image import peak_signal_noise_ratio

from threestudio_ssd.metrics import psnr


def test_agrees_with_torchmetrics(pictures, noise):
    changed = (pictures + 0.05 * noise).clamp(0, 1)
    for row in range(2):
        expected = peak_signal_noise_ratio(changed[row], pictures[row], data_range=1.0)
        torch.testing.assert_close(psnr(changed, pictures)[row], expected, rtol=1e-5, atol=1e-5)


def test_zeroed_is_torchmetrics_on_masked_pictures(pictures, noise):
    changed = (pictures + 0.05 * noise).clamp(0, 1)
    masks = (pictures[:, 0] > 0.5).float()
    value = psnr(changed, pictures, masks, mask_mode="zeroed")
    for row in range(2):
        expected = peak_signal_noise_ratio(changed[row] * masks[row], pictures[row] * masks[row], data_range=1.0)
        torch.testing.assert_close(value[row], expected, rtol=1e-5, atol=1e-5)


def test_a_worse_edit_scores_lower(pictures, noise):
    values = [psnr((pictures + level * noise).clamp(0, 1), pictures) for level in (0.01, 0.03, 0.1)]
    assert (values[0] > values[1]).all()
    assert (values[1] > values[2]).all()


def test_known_value_and_equal_pictures(pictures):
    torch.testing.assert_close(psnr(pictures + 0.1, pictures), torch.full((2,), 20.0), rtol=0, atol=1e-3)
    assert psnr(pictures, pictures).isposinf().all()


def test_an_edit_inside_leaves_the_outside_perfect(pictures):
    masks = torch.zeros(2, 48, 48, dtype=torch.bool)
    masks[:, 10:30, 10:30] = True
    edited = torch.where(masks[:, None], 1 - pictures, pictures)
    assert psnr(edited, pictures, ~masks).isposinf().all()
    assert (psnr(edited, pictures, masks) < psnr(edited, pictures)).all()
