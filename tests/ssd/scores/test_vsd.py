"""VSD: its value, where it vanishes."""

import torch

from threestudio_ssd.scores import VSD, Branch, guided
from threestudio_ssd.scores.vsd import LORA

ALPHAS = torch.tensor([0.3, 0.9], dtype=torch.float64).view(-1, 1, 1, 1)
NULL, COND = Branch("tgt", "null"), Branch("tgt", "tgt")


def predictions():
    generator = torch.Generator().manual_seed(0)
    return {branch: torch.randn(2, 4, 3, 3, generator=generator, dtype=torch.float64) for branch in (NULL, COND, LORA)}


def test_the_equation():
    eps = predictions()
    difference = eps[NULL] + 7.5 * (eps[COND] - eps[NULL]) - eps[LORA]
    torch.testing.assert_close(VSD()(eps, alphas_cumprod=ALPHAS), (1 - ALPHAS) * difference)
    torch.testing.assert_close(VSD(weighting="uniform")(eps, alphas_cumprod=ALPHAS), difference)
    weight = torch.tensor([0.3**0.5 * 0.7, 0.9**0.5 * 0.1], dtype=torch.float64).view(-1, 1, 1, 1)
    torch.testing.assert_close(VSD(weighting="fantasia3d")(eps, alphas_cumprod=ALPHAS), weight * difference)


def test_it_vanishes_where_the_lora_predicts_what_guidance_does():
    eps = predictions()
    eps[LORA] = guided(eps[COND], eps[NULL], 7.5)
    assert VSD()(eps, alphas_cumprod=ALPHAS).abs().max() == 0
    untrained = predictions()
    untrained[LORA] = untrained[COND]
    assert VSD(guidance_scale=1.0)(untrained, alphas_cumprod=ALPHAS).abs().max() == 0
    left = (1 - ALPHAS) * 6.5 * (untrained[COND] - untrained[NULL])
    torch.testing.assert_close(VSD()(untrained, alphas_cumprod=ALPHAS), left)


def test_which_predictions_it_needs():
    assert VSD().branches == (NULL, COND, LORA)
    assert VSD(guidance_scale=1.0).branches == (COND, LORA)
    assert LORA.network == "lora"
    assert COND.network == "frozen"
