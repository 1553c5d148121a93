"""The schedule of anchors, against the one written out by hand."""

import pytest
import torch

from threestudio_ssd.gaussians import anchor_weights, held_drift


@pytest.mark.parametrize(
    ("num_growths", "expected"),
    [
        (0, [0.05]),
        (1, [0.065, 0.0]),
        (2, [0.0845, 0.1, 0.0]),
        (3, [0.10985, 0.13, 0.1, 0.0]),
    ],
)
def test_the_schedule_of_the_published_settings(num_growths, expected):
    weights = anchor_weights(num_growths, first=0.05, birth=0.1, factor=1.3)
    assert weights.tolist() == pytest.approx(expected)


def test_the_schedule_equals_one_kept_as_a_list():
    """As the method's description has it: multiply all, set the youngest, append a free one."""
    listed = [1.0]
    for count in range(1, 15):
        listed = [min(weight * 2.0, 10.0) for weight in listed]
        if count > 1:
            listed[-1] = 0.1
        listed.append(0.0)
        weights = anchor_weights(count, first=1.0, birth=0.1, factor=2.0).tolist()
        assert weights == pytest.approx(listed), count


def test_drift_weighs_each_gaussian():
    values, anchors = torch.zeros(3, 2), torch.tensor([[1.0, 1.0], [2.0, 0.0], [5.0, 5.0]])
    weights = torch.tensor([1.0, 0.5, 0.0])
    assert held_drift(values, anchors, weights).item() == pytest.approx((2 + 0.5 * 4) / 6)
    assert held_drift(values[:, 0], anchors[:, 0], weights).item() == pytest.approx((1 + 2) / 3)
