"""Saturation drift: sign, size, region."""

import pytest
import torch

from threestudio_ssd.metrics import saturation_drift


def test_it_is_the_difference_of_channel_ranges():
    pictures, references = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    rows = [each.numpy() for each in (pictures, references)]
    expected = [(a.max(0) - a.min(0)).mean() - (b.max(0) - b.min(0)).mean() for a, b in zip(*rows, strict=True)]
    assert saturation_drift(pictures, references).tolist() == pytest.approx(expected, abs=1e-6)


def test_vivid_is_positive_grey_is_negative_and_the_mask_decides_where():
    reference = torch.tensor([0.8, 0.4, 0.4]).view(1, 3, 1, 1).expand(1, 3, 12, 12).contiguous()
    vivid, grey = reference.clone(), reference.mean(1, keepdim=True).expand_as(reference).contiguous()
    vivid[:, 1:] = 0.1
    assert float(saturation_drift(vivid, reference)) == pytest.approx(0.3, abs=1e-6)
    assert float(saturation_drift(grey, reference)) == pytest.approx(-0.4, abs=1e-6)
    half = torch.zeros(1, 12, 12)
    half[:, :6] = 1
    mixed = torch.cat([vivid[:, :, :6], reference[:, :, 6:]], dim=2)
    assert float(saturation_drift(mixed, reference, half)) == pytest.approx(0.3, abs=1e-6)
    assert float(saturation_drift(mixed, reference, 1 - half)) == pytest.approx(0.0, abs=1e-6)
