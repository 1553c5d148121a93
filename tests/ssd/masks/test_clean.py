"""Floaters leave, what is enclosed joins, and selections grow and shrink by world units."""

import torch

from threestudio_ssd.masks import grown, with_interior, with_seam_by_color, without_floaters


def sphere(count, radius=1.0, center=(0.0, 0.0, 0.0), seed=0):
    """Points on a sphere."""
    points = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    return radius * points / points.norm(dim=1, keepdim=True) + torch.tensor(center)


def test_small_separate_pieces_leave_and_large_ones_stay():
    body, second, speck = sphere(600), sphere(200, 0.5, (6.0, 0, 0), 1), sphere(6, 0.02, (0, 5.0, 0), 2)
    rest = sphere(50, 3.0, (0, 0, 9.0), 3)
    means = torch.cat([body, second, speck, rest])
    is_selected = torch.ones(len(means), dtype=torch.bool)
    is_selected[-50:] = False
    kept = without_floaters(means, is_selected, torch.ones(len(means)))
    assert kept[:800].all()
    assert not kept[800:].any()


def test_a_piece_is_small_by_its_visible_weight():
    means = torch.cat([sphere(600), sphere(60, 0.2, (6.0, 0, 0), 1)])
    is_selected = torch.ones(660, dtype=torch.bool)
    weights = torch.ones(660)
    assert without_floaters(means, is_selected, weights).all()
    weights[600:] = 0.01
    assert not without_floaters(means, is_selected, weights)[600:].any()


def test_a_handful_is_left_alone():
    means = sphere(4)
    is_selected = torch.tensor([True, False, True, True])
    assert torch.equal(without_floaters(means, is_selected, torch.ones(4)), is_selected)


def test_the_inside_joins_and_what_lies_below_a_floor_does_not():
    shell, inside = sphere(400), sphere(60, 0.4, (0.0, 0.0, 0.3), seed=1)
    floor = torch.rand(400, 3, generator=torch.Generator().manual_seed(2)) * torch.tensor([6.0, 6.0, 0.02])
    floor = floor - torch.tensor([3.0, 3.0, 0.95])
    below = torch.rand(80, 3, generator=torch.Generator().manual_seed(3)) * torch.tensor([0.2, 0.2, 0.02])
    below = below + torch.tensor([0.75, 0.75, -0.98])
    means = torch.cat([shell, inside, floor, below])
    is_selected, is_seen = torch.zeros(2, len(means), dtype=torch.bool)
    is_selected[:400] = is_seen[:400] = is_seen[460:860] = True
    whole = with_interior(means, is_selected, is_seen)
    assert whole[:460].all()
    assert not whole[460:860].any()
    assert not whole[860:].any()
    assert torch.equal(with_interior(means, is_selected & False, is_seen), is_selected & False)


def test_growing_and_shrinking_by_world_units():
    means = torch.zeros(11, 3)
    means[:, 0] = torch.arange(11) * 0.1
    is_selected = (means[:, 0] > 0.35) & (means[:, 0] < 0.65)
    assert is_selected.nonzero()[:, 0].tolist() == [4, 5, 6]
    assert grown(means, is_selected, 0.15).nonzero()[:, 0].tolist() == [3, 4, 5, 6, 7]
    assert grown(means, is_selected, -0.15).nonzero()[:, 0].tolist() == [5]
    assert torch.equal(grown(means, is_selected, 0.0), is_selected)
    assert grown(means, torch.ones(11, dtype=torch.bool), -1.0).all()
    assert not grown(means, torch.zeros(11, dtype=torch.bool), 1.0).any()


def ball_on_the_ground():
    """A red ball and the green ground under it, and how much of each Gaussian shows."""
    ball = sphere(2400, 1.0, (0.0, 0.0, 1.0))
    ground = torch.rand(900, 3, generator=torch.Generator().manual_seed(4)) * torch.tensor([6.0, 6.0, 0.02])
    means = torch.cat([ball, ground - torch.tensor([3.0, 3.0, 0.02])])
    is_ball = torch.arange(3300) < 2400
    rgbs = torch.where(is_ball[:, None], torch.tensor([0.8, 0.1, 0.1]), torch.tensor([0.2, 0.6, 0.1]))
    is_under = ~is_ball & (means[:, :2].norm(dim=1) < 0.7)
    weights = torch.ones(3300)
    weights[is_under] = 0.01
    return means, rgbs * torch.linspace(0.4, 1, 3300)[:, None], is_ball, is_under, weights


def test_a_seam_is_settled_by_color():
    """A trace that lost half of the ball's foot and took the ground beneath it along; light and shade do not count."""
    means, rgbs, is_ball, is_under, weights = ball_on_the_ground()
    is_foot = is_ball & (means[:, 2] < 0.3) & (torch.arange(3300) % 2 == 0)
    assert is_foot.sum() > 20
    assert is_under.sum() > 5
    traced = (is_ball & ~is_foot) | is_under
    assert torch.equal(with_seam_by_color(means, rgbs, traced, weights), is_ball)


def test_ground_that_shows_beside_an_object_is_not_taken_along_by_its_own_vote():
    means, rgbs, is_ball, is_under, weights = ball_on_the_ground()
    is_taken = ~is_ball & (means[:, :2].norm(dim=1) < 0.8)
    assert (weights[is_taken] == 1).sum() > 10
    assert torch.equal(with_seam_by_color(means, rgbs, is_ball | is_taken, weights), is_ball)


def test_where_colors_are_alike_a_seam_is_settled_by_place():
    means, rgbs, is_ball, _, weights = ball_on_the_ground()
    settled = with_seam_by_color(means, rgbs.new_full((3300, 3), 0.5), is_ball, weights)
    assert (settled != is_ball).float().mean() < 0.03
    nothing = torch.zeros_like(is_ball)
    assert torch.equal(with_seam_by_color(means, rgbs, nothing, weights), nothing)
    everything = torch.ones_like(is_ball)
    assert torch.equal(with_seam_by_color(means, rgbs, everything, weights), everything)
