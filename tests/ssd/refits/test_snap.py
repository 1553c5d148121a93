"""Edited views against the empty scene, on drawings whose object is known."""

import torch

from threestudio_ssd.refits.snap import changed_shares

LIMITS = {"sure": 0.2, "soft": 0.1, "weak": 0.07}


def drawing():
    """Grey ground under a blue sky, (1 3 64 64)."""
    image = torch.full((1, 3, 64, 64), 0.6)
    image[:, :, :20] = torch.tensor([0.5, 0.75, 0.95])[None, :, None, None]
    return image


def test_an_object_is_found_where_it_is_and_nothing_else():
    empty = drawing()
    edited = empty + 0.03 * torch.rand(empty.shape)
    edited[:, :, 24:48, 20:44] = torch.tensor([0.9, 0.1, 0.1])[None, :, None, None]
    shares = changed_shares(edited, empty, **LIMITS)
    true = torch.zeros(1, 1, 64, 64)
    true[:, :, 24:48, 20:44] = 1
    assert ((shares > 0.5).float() - true).abs().sum() <= 4  # corners
    assert shares[true == 0].mean() < 0.02


def test_a_soft_outline_runs_through_the_middle():
    """Or the object would be a tenth larger than it is."""
    from threestudio_ssd.metrics import gaussian_blur

    empty = torch.full((1, 3, 64, 64), 0.6)
    edited = empty.clone()
    edited[:, :, 24:48, 20:44] = 0.0
    shares = changed_shares(gaussian_blur(edited, 1.5), gaussian_blur(empty, 1.5), **LIMITS)
    assert abs(int((shares > 0.5).sum()) - 24 * 24) < 80


def test_a_pale_stem_that_touches_the_object_stays_and_alone_it_does_not():
    empty = drawing()
    stem = empty.clone()
    stem[:, :, 44:60, 24:40] += torch.tensor([0.06, 0.06, -0.08])[None, :, None, None]
    assert changed_shares(stem, empty, **LIMITS).max() < 1e-3
    stem[:, :, 24:46, 14:50] = torch.tensor([0.9, 0.1, 0.1])[None, :, None, None]
    shares = changed_shares(stem, empty, **LIMITS)
    assert shares[0, 0, 48:57, 28:36].min() == 1
    assert shares[0, 0, 50:, :20].max() < 1e-3


def test_shadows_and_a_moved_horizon_are_no_object():
    empty = drawing()
    edited = empty.clone()
    edited[:, :, 24:40, 20:44] = torch.tensor([0.9, 0.1, 0.1])[None, :, None, None]
    edited[:, :, 40:56, 16:48] *= 0.75
    edited[:, :, 20:22] = empty[:, :, :1].amin(dim=2, keepdim=True)
    shares = changed_shares(edited, empty, **LIMITS)
    assert shares[0, 0, 43:].max() < 1e-3
    assert shares[0, 0, 18:23, :12].max() < 1e-3
    assert shares[0, 0, 27:38, 24:40].min() == 1


def test_nothing_changed_is_nothing():
    assert changed_shares(drawing(), drawing(), **LIMITS).max() < 1e-3
