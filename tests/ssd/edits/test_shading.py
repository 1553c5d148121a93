"""The shading term: changes of material cost nothing, changes of light do."""

import torch

from threestudio_ssd.edits.bounded_colors import brightness
from threestudio_ssd.edits.shading import Shading

SHADES = torch.linspace(0.2, 0.9, 8)[:, None]
RED, GREEN = torch.tensor([0.9, 0.05, 0.05]), torch.tensor([0.05, 0.8, 0.1])
ROWS = torch.arange(16)


def two_materials():
    return torch.cat([SHADES * RED, SHADES * GREEN])


def test_a_new_material_under_the_old_light_costs_nothing():
    rgbs = two_materials()
    shading = Shading(rgbs, torch.ones(16))
    assert float(shading(rgbs, ROWS)) == 0
    change = torch.cat([torch.tensor([[-0.8, 0.1, 0.9]]).expand(8, 3), torch.tensor([[0.3, -0.5, 0.0]]).expand(8, 3)])
    assert float(shading(rgbs + brightness(rgbs) * change, ROWS)) < 1e-6


def test_a_uniform_push_costs_by_how_far_it_flattens():
    rgbs = two_materials()
    shading = Shading(rgbs, torch.ones(16))
    push = torch.tensor([-0.2, 0.0, 0.2])
    assert float(shading(rgbs + push, ROWS)) > 0.05
    assert float(shading(rgbs + 2 * push, ROWS)) > 3.9 * float(shading(rgbs + push, ROWS))


def test_materials_change_apart():
    """One of two hues alone: as cheap as both, where a single change for all would cost."""
    rgbs = two_materials()
    change = torch.cat([brightness(rgbs)[:8] * torch.tensor([-0.8, 0.1, 0.9]), torch.zeros(8, 3)])
    apart = float(Shading(rgbs, torch.ones(16))(rgbs + change, ROWS))
    grey = rgbs.mean(dim=1, keepdim=True).expand(16, 3)
    together = float(Shading(grey, torch.ones(16))(grey + change, ROWS))
    assert apart < 1e-6
    assert together > 0.05


def test_weight_zero_has_no_say_and_rows_may_repeat():
    rgbs = two_materials()
    weights = torch.ones(16)
    weights[3] = 0
    shading = Shading(rgbs, weights)
    moved = rgbs.clone()
    moved[3] += 1
    assert float(shading(moved, ROWS)) == 0
    rows = torch.cat([ROWS, torch.tensor([5, 5])])
    assert float(shading(rgbs[rows], rows)) == 0


def test_black_has_a_shade_too():
    black = torch.zeros(4, 3)
    shading = Shading(black, torch.ones(4))
    assert torch.isfinite(shading(black + 0.5, torch.arange(4)))
    assert float(shading(black + 0.5, torch.arange(4))) < 1e-6
