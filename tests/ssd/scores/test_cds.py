"""The contrastive energy: its value by hand, what it prefers, its gradient."""

import numpy as np
import pytest
import torch

from threestudio_ssd.scores import CDS, Branch
from threestudio_ssd.scores.cds import patch_contrast, patches


def maps(count=2, channels=3, size=(4, 5), seed=0):
    return torch.randn(count, channels, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def energy(cds, sources, targets, seed=0, num_cells=64):
    return cds(sources, targets, num_cells=num_cells, generator=torch.Generator().manual_seed(seed))


def test_contrast_by_hand():
    """-log of the target's share at the source's own place, in plain numpy."""
    source, target, places = maps(1).flatten(2), maps(1, seed=1).flatten(2), torch.tensor([7, 0, 13])
    expected = []
    for i in places.tolist():
        cosines = []
        for j in places.tolist():
            a, b = source[0, :, i].numpy(), target[0, :, j].numpy()
            cosines.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b) / 0.07)
        own = cosines[places.tolist().index(i)]
        expected.append(np.log(np.exp(np.array(cosines) - own).sum()))
    result = patch_contrast(source, target, places, 0.07)
    assert float(result) == pytest.approx(np.mean(expected), rel=1e-9)


def test_the_energy_is_the_weighted_sum_over_layers_and_patch_sizes():
    cds = CDS(weight=2.0, num_patches=1000)
    sources, targets = [maps(), maps(size=(2, 2), seed=2)], [maps(seed=1), maps(size=(2, 2), seed=3)]
    expected = 0
    for source, target in zip(sources, targets, strict=True):
        for size in (1, 2):
            both = patches(source.float(), size), patches(target.float(), size)
            expected = expected + patch_contrast(*both, torch.arange(both[0].shape[-1]), 0.07)
    torch.testing.assert_close(energy(cds, sources, targets), 2.0 * 64 / 2000 * expected, rtol=1e-5, atol=1e-6)


def test_kept_places_score_better_than_moved_ones():
    cds, source = CDS(), maps()
    moved = source.roll(1, dims=-1)
    assert (energy(cds, [source], [source]) < energy(cds, [source], [moved])).all()


def test_views_do_not_mix_and_the_generator_draws_the_places():
    cds, source, target = CDS(num_patches=6), [maps(3)], [maps(3, seed=1)]
    whole = energy(cds, source, target)
    for row in range(3):
        one = energy(cds, [source[0][row : row + 1]], [target[0][row : row + 1]])
        torch.testing.assert_close(whole[row : row + 1], one)
    assert not torch.equal(whole, energy(cds, source, target, seed=1))


def test_the_reference_is_a_constant_and_the_gradient_is_right():
    source, target = maps(1).requires_grad_(), maps(1, seed=1).requires_grad_()
    energy(CDS(), [source], [target]).sum().backward()
    assert source.grad is None
    assert target.grad.abs().max() > 0
    places = torch.arange(8)

    def contrast(tensor):
        return patch_contrast(maps(1).flatten(2), tensor.flatten(2), places, 0.5)

    assert torch.autograd.gradcheck(contrast, (maps(1, seed=1).requires_grad_(),))


def test_it_does_not_vanish_on_a_null_edit():
    target = maps(1).requires_grad_()
    energy(CDS(), [maps(1)], [target]).sum().backward()
    assert target.grad.abs().max() > 1e-6


def test_small_maps_are_one_patch():
    assert patches(maps(size=(1, 1)), 2).shape[-1] == 1
    assert patches(maps(size=(3, 5)), 2).shape[-1] == 2
    assert float(energy(CDS(), [maps(1, size=(1, 1))], [maps(1, size=(1, 1), seed=1)])) == pytest.approx(0, abs=1e-6)


def test_it_compares_the_two_conditional_predictions():
    assert CDS.branches == (Branch("src", "src"), Branch("tgt", "tgt"))
