"""The lattice of a field that is fitted to a splat: cells where its surfaces are, and nowhere else."""

import torch

from tests.edit_world import toy_cameras, toy_parts
from threestudio_ssd.edits.field_start import LEAST_ALPHA, near_surfaces
from threestudio_ssd.fields import march, rays_of, whole_lattice
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
