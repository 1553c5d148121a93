"""Detail below a latent cell: speckles are, an even change of the selection is not, whatever its outline."""

import torch

from threestudio_ssd.edits.detail import new_detail


def disk(size=32, radius=10.0):
    """A soft-edged disk, (1 1 size size)."""
    places = torch.arange(size) + 0.5 - size / 2
    return (radius + 0.5 - torch.hypot(places[:, None], places[None])).clamp(0, 1)[None, None]


def test_an_even_change_of_the_selection_has_no_detail_even_at_its_rim():
    shown = disk()
    change = shown * torch.tensor([0.5, -0.2, 0.1]).view(1, 3, 1, 1)
    assert new_detail(change, shown, 4).abs().max() < 1e-6


def test_speckles_are_detail_and_coarse_patterns_hardly_are():
    shown = torch.ones(1, 1, 32, 32)
    speckles = torch.zeros(1, 3, 32, 32)
    speckles[..., ::2, ::2] = 0.4
    coarse = torch.cos(torch.arange(32) * torch.pi / 16).expand(1, 3, 32, 32) * 0.4
    share = [new_detail(change, shown, 4).pow(2).sum() / change.pow(2).sum() for change in (speckles, coarse)]
    assert share[0] > 0.7
    assert share[1] < 0.05


def test_nothing_shown_is_no_detail():
    assert new_detail(torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8), 4).abs().max() == 0
