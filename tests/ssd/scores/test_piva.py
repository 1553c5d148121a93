"""Piva: its value, where it vanishes, what is left of it without its identity term."""

import pytest
import torch

from threestudio_ssd.scores import DDS, Branch, Piva
from threestudio_ssd.scores.piva import LORA_SRC, LORA_TGT

ALPHAS = torch.tensor([0.3, 0.9], dtype=torch.float64).view(-1, 1, 1, 1)


def predictions(score):
    generator = torch.Generator().manual_seed(0)
    return {branch: torch.randn(2, 4, 3, 3, generator=generator, dtype=torch.float64) for branch in score.branches}


@pytest.mark.parametrize(("weighting", "weight"), [("uniform", 1.0), ("sigma2", 1 - ALPHAS)])
def test_the_equation(weighting, weight):
    score = Piva(guidance_scale=5.0, lambda_identity=0.5, weighting=weighting)
    eps = predictions(score)
    tgt, src = (
        eps[Branch(name, "null")] + 5 * (eps[Branch(name, name)] - eps[Branch(name, "null")]) for name in ("tgt", "src")
    )
    expected = tgt - src + 0.5 * weight * (eps[LORA_SRC] - eps[LORA_TGT])
    torch.testing.assert_close(score(eps, alphas_cumprod=ALPHAS), expected)


def test_the_identity_term_leads_back_to_the_source():
    """Two normal distributions of unit variance: fed back, the term moves an image of the one towards the other."""
    middle_src, middle_tgt, latents = 0.0, 2.0, torch.full((1, 1, 1, 1), 2.0)
    eps = dict.fromkeys(Piva().branches, torch.zeros(1, 1, 1, 1))
    eps |= {LORA_SRC: latents - middle_src, LORA_TGT: latents - middle_tgt}  # minus the scores, up to scale
    moved = latents - 0.1 * Piva()(eps, alphas_cumprod=torch.full((1, 1, 1, 1), 0.5))
    assert abs(float(moved) - middle_src) < abs(float(latents) - middle_src)


def test_it_vanishes_where_edit_and_source_are_the_same():
    eps = predictions(Piva())
    for prompt, other in (("null", "null"), ("tgt", "src")):
        eps[Branch("tgt", prompt)] = eps[Branch("src", other)]
    eps[LORA_TGT] = eps[LORA_SRC]
    assert Piva()(eps, alphas_cumprod=ALPHAS).abs().max() == 0


def test_without_its_weight_it_is_dds_and_needs_no_lora():
    score = Piva(lambda_identity=0.0)
    assert score.branches == DDS().branches
    eps = predictions(score)
    assert torch.equal(score(eps, alphas_cumprod=ALPHAS), DDS()(eps))


def test_both_predictions_are_of_the_edit_as_it_is():
    assert {branch.latents for branch in (LORA_SRC, LORA_TGT)} == {"tgt"}
    assert {branch.prompt for branch in (LORA_SRC, LORA_TGT)} == {"src", "tgt"}
    assert Piva().branches[-2:] == (LORA_SRC, LORA_TGT)
