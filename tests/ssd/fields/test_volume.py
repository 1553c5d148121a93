"""The volume rendering equation: against sums written out, finite differences, and fields whose light is known."""

import math
import types

import pytest
import torch
from torch.nn.functional import softplus

from tests.field_world import around, ball_field
from threestudio_ssd.fields import RadianceField, composite, march, ray_weights, rays_of, volume, whole_lattice
from threestudio_ssd.fields.lattice import fold, unfold
from threestudio_ssd.fields.rays import Rays

DEPTHS = torch.tensor([0.3, 1.2, 0.01, 5.0, 0.7, 0.0, 2.0], dtype=torch.float64)
RAYS = torch.tensor([0, 0, 0, 2, 2, 2, 2])


def by_hand(depths, rays, num_rays):
    """T_i (1 - exp(-d_i)), sample by sample."""
    weights = []
    for ray in range(num_rays):
        light = 1.0
        for depth in depths[rays == ray].tolist():
            weights.append(light * (1 - math.exp(-depth)))
            light *= math.exp(-depth)
    return torch.tensor(weights, dtype=depths.dtype)


def test_weights_are_what_the_equation_says():
    weights = ray_weights(DEPTHS, RAYS, 4)
    torch.testing.assert_close(weights, by_hand(DEPTHS, RAYS, 4))
    alphas = composite(weights, torch.ones(7, 1, dtype=torch.float64), RAYS, 4)[:, 0]
    through = torch.tensor([1.51, 0, 7.7, 0], dtype=torch.float64)
    torch.testing.assert_close(alphas, 1 - (-through).exp())


def test_gradients_are_those_of_finite_differences():
    def light(depths, values):
        return composite(ray_weights(depths, RAYS, 4), values, RAYS, 4)

    values = torch.rand(7, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(light, (DEPTHS.clone().requires_grad_(), values.requires_grad_()))


def test_many_rays_are_as_exact_as_one():
    """Sums over all rays at once would lose the thin ones behind thousands of opaque ones."""
    depths = torch.cat([torch.full((200_000,), 9.0), torch.tensor([1e-3, 2e-3])])
    rays = torch.cat([torch.arange(200_000), torch.tensor([200_000, 200_000])])
    tail = ray_weights(depths, rays, 200_001)[-2:].double()
    torch.testing.assert_close(tail, by_hand(depths[-2:].double(), torch.zeros(2), 1), rtol=1e-3, atol=0)


def test_a_fog_lets_through_what_its_density_says():
    """One density in the whole cube: exp(-density times length), at any resolution."""
    for resolution in (17, 33):
        lattice = whole_lattice(torch.zeros(3), 1.0, resolution)
        inside = lattice.means.abs().amax(dim=1) < 1 + 1e-4
        per_length = 0.8
        raw = math.log(math.expm1(per_length * lattice.side))
        count = int(inside.sum())
        field = RadianceField(
            lattice.select(inside), torch.full((count,), raw), torch.zeros(count, 1, 3), torch.zeros(count, 0, 3)
        )
        directions = torch.nn.functional.normalize(torch.tensor([[1.0, 0, 0], [1.0, 0.3, -0.2]]), dim=1)
        rays = Rays(torch.tensor([[-3.0, 0.03, 0.02], [-2.0, -0.5, 0.3]]), directions, torch.ones(2))
        _, alphas, _ = field.render_rays(rays, march(field.lattice, rays), torch.zeros(3))
        lengths = 2 / directions[:, 0]
        torch.testing.assert_close(alphas, 1 - (-per_length * lengths).exp(), atol=0.02, rtol=0)


def test_gradients_of_a_render_are_those_of_finite_differences():
    field = ball_field(resolution=9, sh_degree=1)
    lattice = field.lattice
    rays = rays_of(around(1, 4), 0)
    samples = march(lattice, rays)
    assert len(samples)
    raw, sh0, shN = (each.double() for each in (0.2 * field.raw_densities, field.sh0, field.shN))

    def light(raw, sh0, shN):
        images, alphas, _ = RadianceField(lattice, raw, sh0, shN).render_rays(rays, samples, torch.full((3,), 0.3))
        return images.sum(), alphas.sum()

    sh0 = 0.3 * sh0  # away from black, where colours are clamped
    inputs = tuple(each.requires_grad_() for each in (raw, sh0, 0.1 * shN))
    assert torch.autograd.gradcheck(light, inputs, fast_mode=True, atol=1e-4, rtol=1e-3)


def test_a_ball_is_where_and_as_far_as_it_should_be():
    field, cameras = ball_field(resolution=41), around(2, 33, radius=3.0)
    images, alphas, depths = field.render(cameras, torch.tensor([0.0, 1.0, 0.0]))
    assert alphas[0, 16, 16] > 0.999
    assert abs(float(depths[0, 16, 16]) - 2.4) < 0.05
    assert float(alphas[0, 0, 0]) == 0
    assert images[0, 0, 0].tolist() == [0.0, 1.0, 0.0]
    hit = cameras.centers[0] * 0.6 / 3.0
    torch.testing.assert_close(images[0, 16, 16], 0.5 + 0.4 * hit / 0.6, atol=0.03, rtol=0)


def test_space_is_folded_and_unfolded():
    points = torch.randn(200, 3, dtype=torch.float64) * 3
    torch.testing.assert_close(unfold(fold(points)), points)
    assert fold(points).abs().max() < 2
    assert torch.equal(fold(points[points.abs().amax(1) <= 1]), points[points.abs().amax(1) <= 1])


def test_marching_finds_what_small_steps_find():
    """Leaps over empty space miss no filled cell that a ray goes through for more than a step."""
    lattice = ball_field(resolution=33).lattice
    rays = rays_of(around(3, 12), 1)
    samples = march(lattice, rays)
    found = torch.zeros(len(rays.origins), dtype=torch.bool)
    found[samples.rays] = True
    lengths = torch.arange(0, 6, 0.005)
    points = rays.origins[:, None] + lengths[:, None] * rays.directions[:, None]
    corner = lattice.places(points).floor().long().clamp(0, lattice.resolution - 2)
    filled = (lattice.cell_of[corner[..., 0], corner[..., 1], corner[..., 2]] >= 0).sum(dim=1) * 0.005
    assert found[filled > 1.5 * lattice.side].all()
    assert not found[filled == 0].any()
    assert (samples.rays.diff() >= 0).all()
    same = samples.rays.diff() == 0
    assert (samples.lengths.diff()[same] > 0).all()


class Kernels(types.SimpleNamespace):
    """nerfacc as its signatures are, in plain torch."""

    @staticmethod
    def render_weight_from_density(t_starts, t_ends, sigmas, packed_info=None, ray_indices=None, n_rays=None):
        depths = (t_ends - t_starts) * sigmas
        return by_hand(depths, ray_indices, n_rays), None, None

    @staticmethod
    def accumulate_along_rays(weights, values=None, ray_indices=None, n_rays=None):
        return torch.zeros(n_rays, values.shape[1]).to(values).index_add(0, ray_indices, weights[:, None] * values)


def test_nerfacc_is_asked_on_cuda_where_it_is_installed(monkeypatch):
    class OnCuda(torch.Tensor):
        is_cuda = True

    expected = ray_weights(DEPTHS, RAYS, 4)
    monkeypatch.setattr(volume, "nerfacc", lambda: Kernels())
    weights = ray_weights(DEPTHS.as_subclass(OnCuda), RAYS, 4)
    torch.testing.assert_close(torch.Tensor(weights).double(), expected)
    values = torch.rand(7, 2, dtype=torch.float64)
    shown = composite(weights.as_subclass(OnCuda), values, RAYS, 4)
    torch.testing.assert_close(torch.Tensor(shown).double(), composite(expected, values, RAYS, 4))


def test_density_is_opaque_only_after_it_is_interpolated():
    field = ball_field(resolution=21)
    samples = march(field.lattice, rays_of(around(1, 8), 0))
    rows = field.lattice.corner_rows[samples.cells].long()
    raw = (field.raw_densities[rows] * samples.weights).sum(dim=1)
    torch.testing.assert_close(field.depths_at(samples), 0.5 * softplus(raw), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", [(3,), (5, 2, 3)])
def test_values_must_be_of_the_nodes(shape):
    lattice = whole_lattice(torch.zeros(3), 1.0, 4)
    with pytest.raises((ValueError, TypeError)):
        RadianceField(lattice, torch.zeros(64), torch.zeros(shape), torch.zeros(64, 0, 3))
