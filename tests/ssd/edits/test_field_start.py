"""Where a field begins: around the surfaces of a splat, or beyond the open space before photographs."""

import torch

from tests.edit_world import toy_cameras, toy_parts
from threestudio_ssd.edits.field_start import LEAST_ALPHA, around_points, beyond_open_space, near_surfaces
from threestudio_ssd.fields import march, rays_of, whole_lattice
from threestudio_ssd.gaussians import rgbs_from_sh0
from threestudio_ssd.rendering import render_depths


def test_every_surface_lies_in_a_cell_and_most_of_space_is_empty():
    splat, views = toy_parts(keep_every=2)[0], toy_cameras(8, 48)
    whole = whole_lattice(torch.tensor([0.0, 0.0, 0.9]), 1.5, 41)
    lattice, sh0 = near_surfaces(whole, splat, views)
    assert sh0.shape == (len(lattice), 1, 3)
    assert sh0.isfinite().all()
    assert len(lattice) < 0.5 * len(whole)
    assert torch.equal(lattice.keys, lattice.keys.unique())
    for row in range(len(views)):
        depths, alphas = (each[0].flatten() for each in render_depths(splat, views[row]))
        rays = rays_of(views[row], 0)
        points = rays.origins + rays.directions * (depths / rays.cosines)[:, None]
        x, y, z = lattice.places(points[alphas > LEAST_ALPHA]).floor().long().clamp(0, 39).unbind(1)
        assert (lattice.cell_of[x, y, z] >= 0).all()
        assert len(march(lattice, rays)) < 0.5 * len(march(whole, rays))


def test_what_no_view_shows_has_no_cells():
    splat, views = toy_parts(keep_every=2)[0], toy_cameras(8, 48)
    nothing = splat.select(splat.means[:, 2] > 1e6)
    whole = whole_lattice(torch.tensor([0.0, 0.0, 0.9]), 1.5, 21)
    lattice, sh0 = near_surfaces(whole, nothing, views[torch.tensor([0])])
    assert len(lattice) == len(sh0) == 0


def _is_seen(views, row, points, depth):
    """Which points a view shows that are nearer than a depth."""
    pixels, depths = views.pixels(row, points)
    return (depths > 0) & (depths < depth) & ((pixels >= 0) & (pixels <= 48)).all(dim=1)


def test_nothing_is_right_in_front_of_a_camera_and_all_points_lie_in_cells():
    splat, views = toy_parts(keep_every=2)[0], toy_cameras(8, 48)
    whole = whole_lattice(torch.tensor([0.0, 0.0, 0.9]), 1.5, 41)
    points = splat.means[splat.means.norm(dim=1) < 3]
    lattice = beyond_open_space(whole, views, points)
    assert 0 < len(lattice) < len(whole)
    x, y, z = lattice.places(points).floor().long().unbind(1)
    assert (lattice.cell_of[x, y, z] >= 0).float().mean() > 0.95
    for row in range(len(views)):
        shown = points[_is_seen(views, row, points, torch.inf)]
        near = 0.5 * float(views.pixels(row, shown)[1].min())
        assert _is_seen(views, row, whole.means, near).any()
        assert not _is_seen(views, row, lattice.means, near).any()
    assert 0 < len(beyond_open_space(whole, views)) < len(whole)


def test_a_camera_that_sees_no_point_still_has_open_space_before_it():
    views = toy_cameras(2, 48)
    whole = whole_lattice(torch.tensor([0.0, 0.0, 0.9]), 1.5, 21)
    behind = views.centers - 5 * views.forwards
    assert torch.equal(beyond_open_space(whole, views[0], behind[:1]).keys, beyond_open_space(whole, views[0]).keys)


def test_nodes_around_points_have_their_colors():
    lattice = whole_lattice(torch.zeros(3), 1.0, 9)
    points, rgbs = torch.tensor([[0.2, 0.2, 0.2], [0.3, 0.3, 0.3], [-0.6, 0.1, 0.1]]), torch.eye(3)
    is_near, sh0 = around_points(lattice, points, rgbs)
    assert int(is_near.sum()) == 16
    colors = rgbs_from_sh0(sh0[:, 0])
    rows = lattice.row_of[4:6, 4:6, 4:6].flatten().long()  # cells have sides of 0.5
    assert is_near[rows].all()
    torch.testing.assert_close(colors[~is_near], torch.full_like(colors[~is_near], 1 / 3))
    torch.testing.assert_close(colors[lattice.row_of[5, 5, 5].long()], torch.tensor([0.5, 0.5, 0.0]))
