"""Input checks and the two meanings of a mask."""

import pytest
import torch

from threestudio_ssd.metrics.regions import check_images, check_pair, edit_regions, masked_pair, weighted_mean


def test_pictures_in_the_unit_range_pass(pictures):
    check_images(pictures)
    check_images(pictures * 0)
    check_images(pictures + 0.1 + 5e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x * 255, "divide by 255"),
        (lambda x: x - 0.5, "must lie in"),
        (lambda x: (x * 255).byte(), "must be float"),
        (lambda x: x.permute(0, 2, 3, 1), "must be \\(b, 3, h, w\\)"),
        (lambda x: x[:0], "not empty"),
        (lambda x: x * float("nan"), "must lie in"),
    ],
)
def test_anything_else_is_refused(pictures, change, message):
    with pytest.raises(ValueError, match=message):
        check_images(change(pictures))


def test_a_pair_of_different_sizes_is_refused(pictures):
    with pytest.raises(ValueError, match="differ in shape"):
        check_pair(pictures, pictures[..., 1:])


def test_region_hides_differences_elsewhere(pictures, noise):
    masks = pictures[:, 0] > 0.5
    changed = (pictures + 0.1 * noise).clamp(0, 1)
    first, second, weights = masked_pair(changed, pictures, masks, "region")
    outside = ~masks[:, None].expand_as(first)
    assert torch.equal(first[outside], pictures[outside])
    assert torch.equal(first[~outside], changed[~outside])
    assert torch.equal(second, pictures)
    assert torch.equal(weights, masks.float())


def test_zeroed_blackens_both_and_weighs_all_pixels(pictures):
    masks = pictures[:, 0] > 0.5
    first, second, weights = masked_pair(pictures, 1 - pictures, masks, "zeroed")
    outside = ~masks[:, None].expand_as(first)
    assert first[outside].abs().max() == 0
    assert second[outside].abs().max() == 0
    assert weights.min() == 1


def test_an_unknown_mode_is_refused(pictures):
    with pytest.raises(Exception, match="mask_mode"):
        masked_pair(pictures, pictures, pictures[:, 0] > 0.5, "inside")


def test_an_empty_region_has_no_mean():
    assert weighted_mean(torch.ones(1, 4, 4), torch.zeros(1, 4, 4)).isnan().all()


def test_the_outline_is_neither_inside_nor_outside():
    is_inside, is_outside = edit_regions(torch.tensor([[[0.0, 0.019, 0.02, 0.5, 0.51, 1.0]]]))
    assert is_inside.tolist() == [[[False, False, False, False, True, True]]]
    assert is_outside.tolist() == [[[True, True, False, False, False, False]]]
