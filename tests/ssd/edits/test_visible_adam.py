"""Adam with one second moment for an attribute."""

import copy

import torch

from threestudio_ssd.edits.shared_grid import linear_shares
from threestudio_ssd.edits.visible_adam import VisibleAdam, color_steps_group


def run(optimizer, parameter, gradients):
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


def gradients(count=5, shape=(6, 1, 3)):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


def test_without_weights_it_is_adam():
    ours, theirs = (torch.nn.Parameter(torch.zeros(6, 1, 3)) for _ in range(2))
    result = run(VisibleAdam([{"params": [ours], "lr": 0.1}]), ours, gradients())
    expected = run(torch.optim.Adam([theirs], lr=0.1, eps=1e-15), theirs, gradients())
    torch.testing.assert_close(result, expected)


def test_steps_keep_the_proportion_of_gradients_per_visible_pixel():
    parameter, weights = torch.nn.Parameter(torch.zeros(3, 1, 3)), torch.tensor([1.0, 10.0, 1.0])
    optimizer = VisibleAdam([{"params": [parameter], "lr": 0.1, "visible_weights": weights}])
    gradient = torch.tensor([1.0, 10.0, 0.01]).view(3, 1, 1).expand(3, 1, 3)
    moved = run(optimizer, parameter, [gradient] * 4)[:, 0, 0]
    torch.testing.assert_close(moved[1], moved[0])
    torch.testing.assert_close(moved[2] / moved[0], torch.tensor(0.01))


def test_a_loaded_state_goes_on_as_if_nothing_had_happened():
    weights = torch.linspace(1, 2, 6)

    def make(start):
        parameter = torch.nn.Parameter(start.clone())
        return parameter, VisibleAdam([{"params": [parameter], "lr": 0.1, "visible_weights": weights}])

    whole, optimizer = make(torch.zeros(6, 1, 3))
    run(optimizer, whole, gradients()[:2])
    resumed, other = make(whole.detach())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert torch.equal(run(optimizer, whole, gradients()[2:]), run(other, resumed, gradients()[2:]))


def test_shared_steps_are_those_of_the_neighbourhood():
    """A Gaussian that one view kicks moves as those around it do, and one far away on its own."""
    places = torch.tensor([[0.0, 0, 0], [0.01, 0, 0], [0.02, 0, 0], [9.0, 0, 0]])
    weights = torch.tensor([10.0, 10.0, 0.01, 10.0])
    gradient = torch.tensor([10.0, 10.0, -5.0, -10.0]).view(4, 1, 1).expand(4, 1, 3)

    def moved(shares):
        parameter = torch.nn.Parameter(torch.zeros(4, 1, 3))
        optimizer = VisibleAdam([{"params": [parameter], "lr": 0.1, **color_steps_group(weights, shares)}])
        return run(optimizer, parameter, [gradient] * 3)[:, 0, 0]

    shared, alone = moved(linear_shares(places, 1.0)), moved(None)
    assert alone[2] > 0 > alone[0]
    assert shared[2] < 0
    torch.testing.assert_close(shared[2], shared[0], rtol=0.1, atol=0)
    assert shared[3] > 0


@torch.no_grad()
def test_a_step_that_is_left_out_moves_nothing_where_nobody_reads_whether_it_is():
    """On a GPU the tensor that says so is not read; on a CPU ``step`` reads it."""
    parameters = [torch.nn.Parameter(torch.zeros(6, 1, 3)) for _ in range(2)]
    told, left_out = (VisibleAdam([{"params": [each], "lr": 0.1}]) for each in parameters)
    for number, gradient in enumerate(gradients()):
        is_off = number in (0, 3)
        told._update(
            parameters[0], gradient * (torch.nan if is_off else 1), told.param_groups[0], torch.tensor(float(is_off))
        )
        parameters[1].grad, left_out.found_inf = gradient, torch.tensor(float(is_off))
        left_out.step()
    assert parameters[0].abs().min() > 0
    torch.testing.assert_close(parameters[0], parameters[1], rtol=0, atol=0)
