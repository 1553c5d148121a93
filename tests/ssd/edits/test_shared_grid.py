"""Sharing values among points on a grid."""

import pytest
import torch

from threestudio_ssd.edits.shared_grid import linear_shares


def points(count=40, dimensions=3):
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_shares_sum_to_one_and_interpolate_linear_functions(dimensions):
    where, side = points(dimensions=dimensions), 0.3
    shares = linear_shares(where, side)
    assert shares.nodes.shape == (40, 2**dimensions)
    torch.testing.assert_close(shares.weights.sum(dim=1), torch.ones(40))
    corners = (where / side).floor()
    torch.testing.assert_close(shares.to_points(torch.ones(shares.num_nodes, 1)), torch.ones(40, 1))
    # A node's place is what all its points agree on: solve for it, and interpolate it back.
    dense = torch.zeros(40, shares.num_nodes).scatter_add_(1, shares.nodes, shares.weights)
    places = torch.linalg.lstsq(dense.double(), (where / side).double(), driver="gelsd").solution
    torch.testing.assert_close(shares.to_points(places).float(), where / side, atol=1e-4, rtol=1e-4)
    assert (corners <= where / side).all()


def test_giving_is_the_transpose_of_getting():
    shares = linear_shares(points(), 0.5)
    values, nodes = torch.randn(40, 2), torch.randn(shares.num_nodes, 2)
    torch.testing.assert_close((shares.to_nodes(values) * nodes).sum(), (values * shares.to_points(nodes)).sum())


def test_near_points_share_nodes_and_far_ones_do_not():
    where = torch.tensor([[0.1, 0.1, 0.1], [0.12, 0.1, 0.1], [1e6, -1e6, 1e6]])
    nodes = linear_shares(where, 0.5).nodes
    assert set(nodes[0].tolist()) == set(nodes[1].tolist())
    assert not set(nodes[0].tolist()) & set(nodes[2].tolist())


def test_no_points_share_nothing():
    shares = linear_shares(torch.zeros(0, 3), 0.5)
    assert shares.num_nodes == 0
    assert shares.to_points(torch.zeros(0, 3)).shape == (0, 3)
