"""The selection as parameters, the rest as it was, the clamp in between."""

import pytest
import torch

from tests.edit_world import toy_parts
from threestudio_ssd.gaussians.model import FIELD_NAMES
from threestudio_ssd.systems.editable import EditableGaussians
from threestudio_ssd.systems.inward import inward_clamp


@pytest.fixture
def parts():
    return toy_parts(keep_every=20)


def shaken(editable):
    """Every parameter moved."""
    with torch.no_grad():
        for parameter in editable.selected.values():
            parameter.add_(torch.rand_like(parameter) + 0.1)
    return editable


def test_an_untouched_edit_is_the_source_bit_for_bit(parts):
    source, is_object = parts
    result = EditableGaussians(source, is_object).result()
    for name in FIELD_NAMES:
        assert torch.equal(getattr(result, name), getattr(source, name)), name


def test_only_the_selection_moves_and_the_order_is_kept(parts):
    source, is_object = parts
    editable = shaken(EditableGaussians(source, is_object))
    result = editable.result()
    for name in FIELD_NAMES:
        before, after = getattr(source, name), getattr(result, name)
        assert torch.equal(after[~is_object], before[~is_object]), name
        assert torch.equal(after[is_object], editable.selected[name].detach()), name
        if before.numel():
            assert (after[is_object] > before[is_object]).all(), name
    assert torch.equal(source.means, parts[0].means)


def test_the_rendered_scene_holds_all_gaussians_and_gradients_stay_in_the_selection(parts):
    source, is_object = parts
    editable = EditableGaussians(source, is_object)
    scene = editable.scene()
    assert len(scene) == len(source)
    assert sorted(scene.means[:, 0].tolist()) == sorted(source.means[:, 0].tolist())
    sum(tensor.sum() for tensor in scene.parameters().values()).backward()
    for name, parameter in editable.selected.items():
        assert torch.equal(parameter.grad, torch.ones_like(parameter)), name
    assert all(tensor.grad is None for tensor in source.parameters().values())


def test_checkpoints_hold_the_selection_alone(parts):
    source, is_object = parts
    editable = shaken(EditableGaussians(source, is_object))
    state = editable.state_dict()
    assert set(state) == {f"selected.{name}" for name in FIELD_NAMES}
    other = EditableGaussians(source, is_object)
    other.load_state_dict(state)
    assert torch.equal(other.result().means, editable.result().means)


def test_drift_is_the_mean_squared_change(parts):
    source, is_object = parts
    editable = EditableGaussians(source, is_object)
    assert editable.drift("means") == 0
    with torch.no_grad():
        editable.selected["means"].add_(0.5)
    assert editable.drift("means").item() == pytest.approx(0.25, rel=1e-4)
    assert editable.drift("sh0") == 0


def test_finiteness(parts):
    editable = EditableGaussians(*parts)
    assert editable.is_finite()
    for value in (float("nan"), float("inf")):
        with torch.no_grad():
            editable.selected["raw_quats"][0, 0] = value
        assert not editable.is_finite()


def test_everything_moves_to_a_device_together(parts):
    source, is_object = parts
    editable = EditableGaussians(source, is_object).to("meta")
    assert editable.scene().device.type == "meta"
    assert editable.drift("means").device.type == "meta"
    assert editable.result().device.type == "meta"


def test_inward_clamp_drops_only_gradients_that_push_outwards():
    values = torch.tensor([-0.5, -0.5, 0.0, 0.3, 0.3, 1.0, 1.5, 1.5], requires_grad=True)
    gradient = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0, -1.0])
    clamped = inward_clamp(values)
    torch.testing.assert_close(clamped, values.detach().clamp(0, 1))
    clamped.backward(gradient)
    # descent moves against the gradient: below 0 a positive one pushes further out, above 1 a negative one does
    assert values.grad.tolist() == [0.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 0.0]


def test_inward_clamp_brings_a_stray_value_back():
    value = torch.tensor([2.0], requires_grad=True)
    optimizer = torch.optim.SGD([value], lr=0.5)
    for _ in range(8):
        optimizer.zero_grad()
        (inward_clamp(value) - 0.25).pow(2).sum().backward()
        optimizer.step()
    assert value.item() == pytest.approx(0.25, abs=0.02)
