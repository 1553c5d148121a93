"""SSIM against torchmetrics; worse is lower; regions."""

import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from threestudio_ssd.metrics import ssim
from threestudio_ssd.metrics.ssim import ssim_map


def test_agrees_with_torchmetrics(pictures, noise):
    changed = (pictures + 0.05 * noise).clamp(0, 1)
    expected = structural_similarity_index_measure(changed, pictures, data_range=1.0, reduction="none")
    torch.testing.assert_close(ssim(changed, pictures), expected, rtol=1e-4, atol=1e-5)


def test_zeroed_is_torchmetrics_on_masked_pictures(pictures, noise):
    changed = (pictures + 0.05 * noise).clamp(0, 1)
    masks = (pictures[:, 0] > 0.5).float()
    first, second = changed * masks[:, None], pictures * masks[:, None]
    expected = structural_similarity_index_measure(first, second, data_range=1.0, reduction="none")
    torch.testing.assert_close(ssim(changed, pictures, masks, mask_mode="zeroed"), expected, rtol=1e-4, atol=1e-5)


def test_a_worse_edit_scores_lower(pictures, noise):
    values = [ssim((pictures + level * noise).clamp(0, 1), pictures) for level in (0.01, 0.05, 0.2)]
    assert (values[0] > values[1]).all()
    assert (values[1] > values[2]).all()


def test_equal_pictures_score_one_and_a_constant_shift_scores_less(pictures):
    torch.testing.assert_close(ssim(pictures, pictures), torch.ones(2), rtol=0, atol=1e-6)
    assert (ssim(pictures + 0.1, pictures) < 0.999).all()


def test_an_edit_inside_leaves_the_outside_perfect(pictures):
    masks = torch.zeros(2, 48, 48, dtype=torch.bool)
    masks[:, 16:32, 16:32] = True
    edited = torch.where(masks[:, None], 1 - pictures, pictures)
    torch.testing.assert_close(ssim(edited, pictures, ~masks), torch.ones(2), rtol=0, atol=1e-6)
    assert (ssim(edited, pictures, masks) < 0.5).all()


def test_pictures_smaller_than_the_window_are_refused(pictures):
    with pytest.raises(ValueError, match="at least 11x11"):
        ssim(pictures[..., :10, :10], pictures[..., :10, :10])


def test_its_gradient_is_that_of_finite_differences(pictures):
    images = pictures[:1, :, :14, :13].double().requires_grad_()
    references = pictures[1:, :, :14, :13].double()
    assert torch.autograd.gradcheck(lambda each: ssim_map(each, references), images)


def test_where_both_are_flat_the_gradient_is_finite(pictures):
    flat = torch.full_like(pictures, 0.3).requires_grad_()
    ssim_map(flat, flat.detach() + 0.1, torch.float32).sum().backward()
    assert flat.grad.isfinite().all()
