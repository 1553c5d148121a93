"""Between two splats: continuous in every attribute, equal where both are, and nothing pops."""

import pytest
import torch

from threestudio_ssd.gaussians import Gaussians, blended, rotation_matrices

COUNT = 6


def some(seed, count=COUNT):
    draws = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=draws)

    return Gaussians(normal(count, 3), normal(count, 3), normal(count, 4), 3 * normal(count), normal(count, 1, 3),
                     normal(count, 3, 3))  # fmt: skip


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters().values(), other.parameters().values(), strict=True))


def test_what_is_the_same_in_both_stays_to_the_last_bit():
    before, after = some(0), some(1)
    is_fixed = torch.tensor([True, False] * 3)
    after = after.replace(**{
        name: torch.where(is_fixed.view(-1, *[1] * (t.dim() - 1)), getattr(before, name), t)
        for name, t in after.parameters().items()
    })  # fmt: skip
    for amount in (0.0, 0.1, 0.37, 0.999, 1.0):
        between = blended(before, after, torch.arange(COUNT), amount)
        assert same(between.select(is_fixed), before.select(is_fixed))


def test_halfway_lies_in_the_middle_of_every_attribute():
    before, after = some(0), some(1)
    half = blended(before, after, torch.arange(COUNT), 0.5)
    for name in ("means", "log_scales", "sh0", "shN"):
        middle = (getattr(before, name) + getattr(after, name)) / 2
        assert torch.allclose(getattr(half, name), middle, atol=1e-6)
    assert torch.allclose(half.opacities, (before.opacities + after.opacities) / 2, atol=1e-6)
    one, mid, two = (rotation_matrices(each.quats.double()) for each in (before, half, after))
    angles = [
        torch.acos((torch.einsum("nij,nij->n", a, b) - 1).div(2).clamp(-1, 1)) for a, b in ((one, mid), (mid, two))
    ]
    assert torch.allclose(angles[0], angles[1], atol=1e-4)
    whole = torch.acos((torch.einsum("nij,nij->n", one, two) - 1).div(2).clamp(-1, 1))
    assert torch.allclose(angles[0] * 2, whole, atol=1e-4)


def test_a_rotation_and_its_negative_are_one():
    before = some(0)
    after = before.replace(raw_quats=-2 * before.raw_quats, sh0=before.sh0 + 1)
    between = blended(before, after, torch.arange(COUNT), 0.3)
    assert torch.allclose(between.quats, before.quats, atol=1e-6)


def test_what_only_one_of_them_has_fades():
    before, after = some(0), some(1, 5)
    rows = torch.tensor([0, 3, -1, 4, -1])
    shares = {}
    for amount in (0.25, 0.75):
        between = blended(before, after, rows, amount)
        assert len(between) == COUNT + 2
        gone, new = between.select([1, 2, 5]), between.select([6, 7])
        assert torch.equal(gone.means, before.means[[1, 2, 5]])
        assert torch.equal(new.means, after.means[[2, 4]])
        shares[amount] = gone.opacities / before.opacities[[1, 2, 5]], new.opacities / after.opacities[[2, 4]]
    for amount, (gone, new) in shares.items():
        assert torch.allclose(gone, torch.tensor(1 - amount))
        assert torch.allclose(new, torch.tensor(amount))


def test_opaque_gaussians_stay_finite():
    before = some(0).replace(logit_opacities=torch.full((COUNT,), 80.0))
    after = some(0).replace(logit_opacities=torch.full((COUNT,), 60.0))
    assert torch.isfinite(blended(before, after, torch.arange(COUNT), 0.5).logit_opacities).all()


@pytest.mark.parametrize(("rows", "amount"), [([0, 1, 2], 0.5), ([0] * 6, 0.5), ([9, 1, 2, 3, 4, 5], 0.5),
                                              ([0, 1, 2, 3, 4, 5], 1.5)])  # fmt: skip
def test_what_does_not_fit_is_refused(rows, amount):
    with pytest.raises(ValueError, match=r"rows do not pair|amount is 1.5"):
        blended(some(0), some(1), torch.tensor(rows), amount)
