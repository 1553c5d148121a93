"""Damage to training images stays in range, keeps hue, and does what its name says."""

import numpy as np
import torch

from threestudio_ssd.training.augment import blur, damage, jitter_colors, mirror, quantise_blocks, shift


def test_damage_stays_in_range_and_keeps_the_order_of_the_channels(generator):
    pictures = torch.tensor([0.8, 0.4, 0.1]).view(1, 3, 1, 1).expand(16, 3, 64, 64)
    damaged = damage(pictures, generator)
    assert damaged.shape == pictures.shape
    assert damaged.min() >= 0
    assert damaged.max() <= 1
    means = damaged.mean((2, 3))
    assert (means[:, 0] > means[:, 1] + 0.2).all()
    assert (means[:, 1] > means[:, 2] + 0.1).all()


def test_the_same_generator_gives_the_same_damage():
    pictures = torch.rand(8, 3, 64, 64)
    first, second = (damage(pictures, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)


def test_mirror_turns_some_pictures_and_leaves_the_others(generator):
    pictures = torch.rand(32, 4, 8, 8)
    turned = mirror(pictures, generator)
    is_same = (turned == pictures).flatten(1).all(1)
    is_turned = (turned == pictures.flip(-1)).flatten(1).all(1)
    assert (is_same | is_turned).all()
    assert is_same.any()
    assert is_turned.any()


def test_blur_keeps_means_and_lowers_contrast():
    pictures = torch.rand(2, 3, 32, 32)
    blurred = blur(pictures, 0.8)
    torch.testing.assert_close(blurred.mean((1, 2, 3)), pictures.mean((1, 2, 3)), rtol=0, atol=0.01)
    assert blurred.std() < 0.7 * pictures.std()


def test_fine_quantisation_changes_nothing_and_coarse_loses_detail():
    pictures = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(quantise_blocks(pictures, 1e-5), pictures, rtol=0, atol=1e-3)
    coarse = quantise_blocks(pictures, 0.05)
    assert 0.02 < (coarse - pictures).std() < 0.3
    torch.testing.assert_close(coarse.mean((2, 3)), pictures.mean((2, 3)), rtol=0, atol=0.02)


def test_shift_moves_the_batch_as_one(generator):
    pictures = torch.zeros(2, 4, 32, 32)
    pictures[:, :, 16, 16] = 1
    moved = shift(pictures, generator)
    assert moved.shape == pictures.shape
    places = moved.nonzero()
    assert len(places) == 8
    assert (places[:, 2:] == places[0, 2:]).all()
    assert (places[0, 2:] - 16).abs().max() <= 4


def test_jittered_colours_leave_the_toy_worlds_own():
    images = torch.full((4, 3, 16, 16), 0.5)
    altered = jitter_colors(images, np.random.default_rng(0))
    assert altered.shape == images.shape
    assert 0 <= altered.min() < 0.4
    assert 0.6 < altered.max() <= 1
    assert torch.equal(altered, jitter_colors(images, np.random.default_rng(0)))
