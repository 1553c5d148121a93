"""Colours that cannot run away, at every SH degree."""

import pytest
import torch

from threestudio_ssd.edits.bounded_colors import bounded_sh0, farthest, following_shN
from threestudio_ssd.edits.inward import inward_clamp
from threestudio_ssd.gaussians.sh import rgbs_from_sh0, sh0_from_rgbs, sh_basis

COUNT, EPSILON = 50, 1e-4


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rand_rgbs(seed, low=0.0, high=1.0):
    draws = torch.rand(COUNT, 3, generator=torch.Generator().manual_seed(seed))
    return low + (high - low) * draws


def directions():
    return torch.nn.functional.normalize(randn(500, 3, seed=9), dim=1)


def view_parts(shN, degree):
    """(directions, n, 3) view-dependent part of the colour."""
    return torch.einsum("dk,nkc->dnc", sh_basis(directions(), degree)[:, 1:], shN)


def test_an_outward_gradient_is_dropped_and_an_inward_one_kept_at_limits_of_its_own():
    values = torch.tensor([-0.3, 0.1, 0.7, 0.9], requires_grad=True)
    low, high = torch.tensor([-0.2, 0.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 0.5, 0.5])
    shown = inward_clamp(values, low, high)
    assert shown.tolist() == pytest.approx([-0.2, 0.1, 0.5, 0.5])
    (shown * torch.tensor([1.0, 1.0, -1.0, 1.0])).sum().backward()  # minus the gradient: down, down, up, down
    assert values.grad.tolist() == [0.0, 1.0, 0.0, 1.0]


def test_colors_stay_in_range_or_no_further_out_than_the_source():
    source = sh0_from_rgbs(rand_rgbs(1, -0.3, 1.3))[:, None]
    shown = rgbs_from_sh0(bounded_sh0(source + 10 * randn(COUNT, 1, 3), source))
    before = rgbs_from_sh0(source)
    assert (shown >= before.clamp(max=0) - EPSILON).all()
    assert (shown <= before.clamp(min=1) + EPSILON).all()
    assert torch.equal(bounded_sh0(source, source), source)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_what_nobody_changed_is_shown_to_the_bit(degree):
    sh0, shN = sh0_from_rgbs(rand_rgbs(2, -0.2, 1.2))[:, None], randn(COUNT, (degree + 1) ** 2 - 1, 3)
    assert torch.equal(following_shN(shN, sh0, shN, sh0), shN)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_no_direction_leaves_the_range_further_than_the_source_may(degree):
    rgbs_src, rgbs = rand_rgbs(3), rand_rgbs(4)
    sh0_src, sh0 = (sh0_from_rgbs(values)[:, None] for values in (rgbs_src, rgbs))
    shN_src = 0.3 * randn(COUNT, (degree + 1) ** 2 - 1, 3)
    reach = farthest(shN_src)
    assert (view_parts(shN_src, degree).abs() <= reach + EPSILON).all()  # the bound is one
    excess = torch.maximum(reach - rgbs_src, rgbs_src + reach - 1).clamp_min(0)
    shown = rgbs + view_parts(following_shN(shN_src, sh0, shN_src, sh0_src), degree)
    assert (shown >= -excess - EPSILON).all()
    assert (shown <= 1 + excess + EPSILON).all()
    free = rgbs + view_parts(shN_src, degree)
    assert (free > 1 + excess + EPSILON).any() or (free < -excess - EPSILON).any()  # and it is needed


def test_the_view_dependent_part_follows_the_color():
    """From a side where grey is a tenth brighter, the red it became is a tenth redder."""
    grey, red = torch.full((1, 3), 0.45), torch.tensor([[0.55, 0.05, 0.05]])
    sh0_src, sh0 = (sh0_from_rgbs(rgb)[:, None] for rgb in (grey, red))
    brighter = torch.zeros(1, 3, 3)
    brighter[0, 1] = 0.05 / 0.4886025119029199  # 0.05 brighter seen along +z, for all channels; s = 0.45 + 0.05
    shown = following_shN(brighter, sh0, brighter, sh0_src)
    along_z = sh_basis(torch.tensor([[0.0, 0.0, 1.0]]), 1)[0, 1:] @ shown[0]
    torch.testing.assert_close(along_z, 0.05 + 0.1 * (red - grey)[0])
