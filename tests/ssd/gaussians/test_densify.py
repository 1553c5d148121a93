"""Cloning, splitting and choosing, against what each is by definition."""

import pytest
import torch

from threestudio_ssd.gaussians import Gaussians, grow, strongest


def random_gaussians(count, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=torch.randn(count, 3, generator=draw),
        log_scales=torch.rand(count, 3, generator=draw) - 3.0,
        raw_quats=torch.randn(count, 4, generator=draw),
        logit_opacities=torch.randn(count, generator=draw),
        sh0=torch.randn(count, 1, 3, generator=draw),
        shN=torch.randn(count, 3, 3, generator=draw),
    )


def test_the_strongest_share_of_those_with_a_gradient():
    grads = torch.tensor([0.0, 5.0, 1.0, 0.0, 3.0, 2.0, 4.0, 0.0])
    assert strongest(grads, 0.4, 0.0, 100).nonzero()[:, 0].tolist() == [1, 6]
    assert strongest(grads, 0.01, 0.0, 100).nonzero()[:, 0].tolist() == [1]
    assert strongest(grads, 1.0, 2.5, 100).nonzero()[:, 0].tolist() == [1, 4, 6]
    assert strongest(grads, 1.0, 0.0, 2).nonzero()[:, 0].tolist() == [1, 6]
    assert strongest(grads, 1.0, 0.0, 100).sum() == 5
    assert not strongest(grads, 1.0, 0.0, 0).any()
    assert not strongest(grads * 0, 1.0, 0.0, 100).any()


def test_small_ones_are_cloned_and_large_ones_split():
    gaussians = random_gaussians(6)
    is_growing = torch.tensor([True, False, True, False, True, False])
    scales = gaussians.log_scales.clone()
    scales[4] = 0.0
    gaussians = gaussians.replace(log_scales=scales)
    grown = grow(gaussians, is_growing, 0.5, torch.Generator().manual_seed(0))
    assert grown.parents.tolist() == [0, 1, 2, 3, 5, 0, 2, 4, 4]
    assert grown.is_new.tolist() == [False] * 5 + [True] * 4
    for name, tensor in grown.gaussians.parameters().items():
        parent = getattr(gaussians, name)[grown.parents]
        if name in ("means", "log_scales"):
            assert torch.equal(tensor[:7], parent[:7]), name
        else:
            assert torch.equal(tensor, parent), name
    torch.testing.assert_close(grown.gaussians.scales[7:], torch.full((2, 3), 1 / 1.6))
    assert not torch.equal(grown.gaussians.means[7], grown.gaussians.means[8])


def test_halves_are_drawn_from_their_parent():
    """Positions of many halves have the parent's covariance."""
    parent = random_gaussians(1, seed=3)
    many = parent.select(torch.zeros(4000, dtype=torch.int64)).replace(
        log_scales=torch.tensor([[0.0, -1.0, -2.0]]).expand(4000, 3).clone()
    )
    grown = grow(many, torch.ones(4000, dtype=torch.bool), 0.5, torch.Generator().manual_seed(1))
    shifts = (grown.gaussians.means - parent.means).double()
    w, x, y, z = parent.quats[0].double().tolist()
    rotation = torch.tensor([
        [w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z],
    ], dtype=torch.float64)  # fmt: skip
    expected = (
        rotation
        @ torch.diag(torch.tensor([1.0, -1.0, -2.0], dtype=torch.float64).mul(torch.tensor([0, 1, 1])).exp() ** 2)
        @ rotation.T
    )
    assert len(shifts) == 8000
    torch.testing.assert_close(shifts.T @ shifts / 8000, expected, atol=0.05, rtol=0)


def test_the_same_generator_gives_the_same_halves():
    gaussians = random_gaussians(5)
    every = torch.ones(5, dtype=torch.bool)
    first, same, other = (
        grow(gaussians, every, 0.0, torch.Generator().manual_seed(s)).gaussians.means for s in (0, 0, 1)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_pruning_never_leaves_nothing():
    grown = grow(random_gaussians(4), torch.tensor([True, False, False, False]), 1.0, torch.Generator())
    assert grown.without(torch.ones(5, dtype=torch.bool)) is grown
    left = grown.without(torch.tensor([True, False, False, True, False]))
    assert left.parents.tolist() == [1, 2, 0]
    assert left.is_new.tolist() == [False, False, True]
    assert len(left.gaussians) == 3


@pytest.mark.parametrize("count", [1, 7])
def test_nothing_grows_when_nothing_is_chosen(count):
    gaussians = random_gaussians(count)
    grown = grow(gaussians, torch.zeros(count, dtype=torch.bool), 0.0, torch.Generator())
    assert torch.equal(grown.gaussians.means, gaussians.means)
    assert not grown.is_new.any()
