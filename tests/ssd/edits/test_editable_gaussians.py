"""The selection as parameters, the rest as it was, the clamp in between."""

import pytest
import torch

from tests.edit_world import toy_parts
from threestudio_ssd.edits.editable_gaussians import EditableGaussians
from threestudio_ssd.edits.inward import inward_clamp
from threestudio_ssd.edits.visible_adam import VisibleAdam
from threestudio_ssd.gaussians import Offspring
from threestudio_ssd.gaussians.model import FIELD_NAMES


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


def test_an_attribute_without_a_learning_rate_is_in_no_group(parts):
    editable = EditableGaussians(*parts)
    groups = editable.optimizer_groups({name: 0 if name == "means" else 0.1 for name in FIELD_NAMES})
    moving = {name for name, parameter in editable.selected.items() if parameter.numel()} - {"means"}
    assert {group["name"] for group in groups} == moving
    assert all(group["params"][0] is editable.selected[group["name"]] for group in groups)


def test_checkpoints_hold_the_selection_alone(parts):
    source, is_object = parts
    editable = shaken(EditableGaussians(source, is_object))
    state = editable.state_dict()
    assert {len(tensor) for tensor in state.values()} == {int(is_object.sum())}
    other = EditableGaussians(source, is_object)
    other.load_state_dict(state)
    assert torch.equal(other.result().means, editable.result().means)
    assert torch.equal(other.drift("means"), editable.drift("means"))


def offspring(editable, parents, num_new):
    """Rows of the selection by their parents, the last ones new."""
    parents = torch.tensor(parents)
    is_new = torch.arange(len(parents)) >= len(parents) - num_new
    return Offspring(editable.current().detach().select(parents), parents, is_new)


def test_grown_selections_keep_the_source_s_order_and_append_the_new(parts):
    source = load_saved(parts[0])
    is_object = parts[1]
    rows = is_object.nonzero()[:, 0]
    editable = EditableGaussians(source, is_object)
    # row 1 leaves, rows 0 and 2 have a child each, row 3 is split
    kept = [0, 2, *range(4, len(rows))]
    editable.rearrange(offspring(editable, [*kept, 0, 2, 3, 3], 4), None)
    with torch.no_grad():
        for count, row in enumerate((-4, -3, -2, -1)):
            editable.selected["means"][row] += 10.0 + count
    result, is_ours = editable.result(), editable.result_selection()
    stems = [row for row in range(len(source)) if row != rows[1]] + [rows[0], rows[2], rows[3]]
    assert result.origin_rows.tolist() == [int(row) for row in stems]
    assert len(result) == len(source) + 2
    place = stems.index(rows[3])
    is_moved = torch.zeros(len(result), dtype=torch.bool)
    is_moved[[place, -3, -2, -1]] = True
    for name in FIELD_NAMES:
        expected = getattr(source, name)[torch.tensor(stems)]
        if name == "means":
            assert torch.equal(result.means[~is_moved], expected[~is_moved])
            assert (result.means[is_moved] - expected[is_moved]).min() > 9
        else:
            assert torch.equal(getattr(result, name), expected), name
    expected = is_object[torch.tensor(stems)]
    assert torch.equal(is_ours, expected)
    assert editable.result_rows().tolist() == [int(row) for row in stems[:-3]] + [-1, -1, -1]


def load_saved(gaussians):
    """The same as if read from a file."""
    import tempfile
    from pathlib import Path

    from threestudio_ssd.gaussians import load_gaussians, save_gaussians

    with tempfile.TemporaryDirectory() as folder:
        save_gaussians(gaussians, Path(folder) / "scene.ply")
        return load_gaussians(Path(folder) / "scene.ply")


def test_the_optimiser_follows(parts):
    source, is_object = parts
    editable = EditableGaussians(source, is_object)
    count = len(editable)
    groups = [{"params": [p], "lr": 0.1, "name": name} for name, p in editable.selected.items() if p.numel()]
    groups[-1]["visible_weights"] = torch.arange(count) + 1.0
    optimizer = VisibleAdam(groups)
    for parameter in editable.selected.values():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    before = {name: dict(optimizer.state[p]) for name, p in editable.selected.items() if p.numel()}
    editable.rearrange(offspring(editable, [2, 0, 5, 5], 1), optimizer)
    assert len(optimizer.state) == len(before)
    for group in optimizer.param_groups:
        name, parameter = group["name"], editable.selected[group["name"]]
        assert group["params"][0] is parameter
        state = optimizer.state[parameter]
        assert state["step"] == 1
        for key in ("exp_avg", "exp_avg_sq"):
            if before[name][key].dim() == 0:
                assert state[key] == before[name][key]
                continue
            assert torch.equal(state[key][:3], before[name][key][[2, 0, 5]]), (name, key)
            assert not state[key][3].any()
    assert optimizer.param_groups[-1]["visible_weights"].tolist() == [3.0, 1.0, 6.0, 6.0]
    for parameter in editable.selected.values():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    assert editable.is_finite()


def test_checkpoints_of_another_size_load(parts):
    source, is_object = parts
    editable = EditableGaussians(source, is_object)
    editable.rearrange(offspring(editable, [0, 1, 1, 1], 2), None)
    editable.begin_generation(torch.tensor([False, False, True, True]), 3)
    editable.grad_sums += 2.0
    other = EditableGaussians(source, is_object)
    other.load_state_dict(editable.state_dict())
    assert other.generations.tolist() == [0, 0, 3, 3]
    assert other.grad_sums.tolist() == [2.0] * 4
    assert torch.equal(other.result().means, editable.result().means)
    assert len(other.result()) == len(source) - int(is_object.sum()) + 4


def test_anchors_are_taken_anew_at_each_generation(parts):
    editable = shaken(EditableGaussians(*parts))
    assert editable.drift("means") > 0
    editable.begin_generation(torch.zeros(len(editable), dtype=torch.bool), 1)
    assert editable.drift("means") == 0
    with torch.no_grad():
        editable.selected["means"][0] += 1.0
    editable.generations[0] = 1
    assert editable.drift("means", torch.tensor([5.0, 0.0])) == 0
    assert editable.drift("means", torch.tensor([0.0, 2.0])).item() == pytest.approx(2 / len(editable), rel=1e-3)


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
