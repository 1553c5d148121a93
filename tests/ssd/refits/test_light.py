"""Light read off surfaces that were lit by a known one."""

import torch

from threestudio_ssd.refits.light import light_on

SUN = torch.nn.functional.normalize(torch.tensor([0.6, -0.3, 0.7]), dim=0)


def sphere(count=3000):
    return torch.nn.functional.normalize(torch.randn(count, 3), dim=1)


def shade(normals):
    return 0.62 + 0.38 * (normals @ SUN).clamp_min(0)


def test_the_light_of_a_ball_falls_on_other_directions_alike():
    normals = sphere()
    light = light_on(normals, shade(normals)[:, None] * torch.tensor([0.8, 0.1, 0.1]))
    others = sphere(200)
    expected = shade(others) / shade(normals).mean()
    assert (light(others) - expected).abs().max() < 0.06


def test_a_second_material_does_not_count():
    """A snowman's hat is dark because it is black, not because no light falls on it."""
    normals = sphere()
    rgbs = shade(normals)[:, None] * torch.tensor([0.8, 0.1, 0.1])
    rgbs[normals[:, 2] > 0.7] = 0.07
    light, whole = light_on(normals, rgbs), light_on(normals, shade(normals)[:, None] * torch.tensor([0.8, 0.1, 0.1]))
    below = sphere(500)
    below = below[below[:, 2] < 0.5]
    ratio = light(below) / whole(below)
    assert ratio.std() / ratio.mean() < 0.05


def test_the_same_material_becomes_as_bright_as_it_was_and_another_keeps_its_brightness():
    normals = sphere()
    light = light_on(normals, shade(normals)[:, None] * torch.tensor([0.5, 0.05, 0.05]))
    unlit = torch.tensor([0.9, 0.09, 0.09]).expand(3000, 3)
    lit = unlit * light.factors(normals, unlit)[:, None]
    assert torch.allclose(lit[:, 0], 0.5 * shade(normals), atol=0.03)
    green = torch.tensor([0.1, 0.6, 0.1]).expand(3000, 3)
    assert abs(float(light.factors(normals, green).mean()) - 1) < 1e-4


def test_even_light_changes_nothing():
    normals = sphere()
    light = light_on(normals, torch.tensor([0.3, 0.5, 0.2]).expand(3000, 3))
    assert torch.allclose(light(sphere(100)), torch.ones(100), atol=1e-3)
