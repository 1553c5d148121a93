"""Edges of samples against those of renders."""

import numpy as np
import pytest
import torch

from threestudio_ssd.diffusion import load_backbone
from threestudio_ssd.metrics import gaussian_blur
from threestudio_ssd.toyworld import Attributes
from threestudio_ssd.toyworld.captions import CUBE_SIDES, SIDES
from threestudio_ssd.training import edges
from threestudio_ssd.training.edges import Bank, Case, best_f_score, draw_cases, edge_maps, grown, true_view


def square(left, top, side=20, size=64):
    image = torch.zeros(3, size, size)
    image[:, top : top + side, left : left + side] = 1
    return image


def bank_of(*images):
    maps = edge_maps(torch.stack(images), 0.1)
    return Bank(maps, torch.stack([grown(image[:1] > 0, 2)[0] for image in images]), 0.1)


def test_the_edges_of_a_square_are_its_outline():
    maps = edge_maps(square(20, 24)[None], 0.1)[0]
    rows, columns = maps.nonzero(as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((24, 43, 20, 39), abs=1)
    assert not maps[28:40, 24:36].any()
    assert not edge_maps(torch.full((1, 3, 64, 64), 0.5), 0.1).any()


def test_a_shift_costs_nothing_and_another_shape_does():
    bank = bank_of(square(20, 24))
    assert best_f_score(square(20, 24), bank) == pytest.approx(1, abs=1e-3)
    assert best_f_score(square(29, 18), bank) == pytest.approx(1, abs=1e-3)
    assert best_f_score(square(20, 24), bank, max_shift=0) == pytest.approx(1, abs=1e-3)
    assert best_f_score(square(29, 18), bank, max_shift=0) < 0.5
    bar = torch.zeros(3, 64, 64)
    bar[:, 30:34, 10:50] = 1
    assert best_f_score(bar, bank) < 0.75
    assert best_f_score(torch.zeros(3, 64, 64), bank) == 0


def test_a_blurred_object_scores_less():
    bank = bank_of(square(20, 24))
    blurred = [float(best_f_score(gaussian_blur(square(20, 24)[None], sigma)[0], bank)) for sigma in (1.0, 3.0, 6.0)]
    assert blurred[0] > blurred[2]


def test_the_best_of_the_bank_counts():
    bank = bank_of(square(20, 24, side=12), square(20, 24))
    assert best_f_score(square(25, 20), bank) == pytest.approx(1, abs=1e-3)


def test_an_object_out_of_sight_has_no_edges():
    bank = edges.bank_of(torch.rand(1, 3, 64, 64), torch.zeros(1, 64, 64, dtype=torch.bool))
    assert not bank.edges.any()
    assert best_f_score(torch.rand(3, 64, 64), bank) == 0


def test_marks_grow_by_the_margin():
    marks = torch.zeros(1, 9, 9, dtype=torch.bool)
    marks[0, 4, 4] = True
    assert grown(marks, 2).sum() == 25


def test_cases_are_plain_and_seen_from_every_side():
    cases = draw_cases("car", 16, np.random.default_rng(0))
    assert {case.words for case in cases} == {f"seen raised from {side}" for side in SIDES}
    assert {case.attributes.pattern for case in cases} == {"plain"}
    assert {case.words for case in draw_cases("cube", 4, np.random.default_rng(0))} == {
        f"seen raised from {side}" for side in CUBE_SIDES
    }


def test_a_true_render_is_like_the_bank_of_its_side_and_less_like_another(monkeypatch):
    monkeypatch.setattr(edges, "BANK_SEEDS", edges.BANK_SEEDS[:1])
    monkeypatch.setattr(edges, "SECTOR_DEG", (-10.0, 0.0, 10.0))
    left = Case(Attributes("car", "red", ground="sand"), 90.0)
    front = left._replace(azimuth_deg=0.0)
    scores = {
        side: np.mean([best_f_score(true_view(left, seed, 64), bank) for seed in (3, 4, 5)])
        for side, bank in (
            ("left", edges.make_bank(left, 64, has_side=True)),
            ("front", edges.make_bank(front, 64, has_side=True)),
        )
    }
    assert scores["left"] > 0.7
    assert scores["left"] > scores["front"] + 0.1


def test_reconstructions_are_the_measure_of_samples(monkeypatch):
    monkeypatch.setattr(edges, "BANK_SEEDS", edges.BANK_SEEDS[:1])
    backbone = load_backbone("data/tiny-ldm")
    case = Case(Attributes("cube", "red", ground="sand"), 45.0)
    with torch.no_grad():
        decoded = backbone.decode(backbone.encode(true_view(case, 3, 64)[None]))
    figures = edges.edge_figures(backbone, decoded, [case], 3, has_side=True)
    assert figures["ratio"] == 1
    assert figures["samples"] == figures["reconstructions"] > 0.5
    assert edges.edge_figures(backbone, torch.zeros(1, 3, 64, 64), [case], 3, has_side=True)["ratio"] == 0
