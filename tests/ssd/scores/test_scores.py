"""What every score must be: its coefficients, its fixed point, nothing evaluated that it does not need."""

import dataclasses
import math

import pytest
import torch

from threestudio_ssd.scores import (
    CSD,
    DDS,
    NFSD,
    PDS,
    SCORES,
    SDS,
    SSD,
    Branch,
    DreamCatalyst,
    DreamCatalystInstructPix2Pix,
    FocusedSSD,
    LocalSSD,
    ScoreInputs,
    SettledSSD,
    SSDInstructPix2Pix,
    guided,
    predict_branches,
    ssd_paper,
)
from threestudio_ssd.scores.focused_ssd import focus

SHAPE = (2, 4, 5, 3)
PROMPTS = ("src", "tgt", "null", "neg")


def values(shape=SHAPE, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Prompts:
    """Stands in for embeddings: one number a row."""

    def __init__(self, rows):
        self.rows = rows

    @classmethod
    def cat(cls, parts):
        return cls(torch.cat([part.rows for part in parts]))


def denoiser(latents, timesteps, prompts, condition=None):
    """Any smooth function of latents, timestep, prompt and condition."""
    number = prompts.rows.view(-1, 1, 1, 1)
    base = torch.sin(latents * 1.3 + number) + 0.1 * number * latents + timesteps.view(-1, 1, 1, 1) / 1000
    return base if condition is None else base + torch.cos(condition * 2)


PROMPT_ROWS = {
    name: Prompts(torch.full((2,), 0.7 * index + 0.1, dtype=torch.float64)) for index, name in enumerate(PROMPTS)
}
T = torch.tensor([400, 700])
ALPHAS = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)


def inputs(score, z_tgt, z_src, prompts=PROMPT_ROWS, network=denoiser):
    """The predictions a score reads and everything else that it may ask for, on latents with shared noise."""
    a = ALPHAS[T].view(-1, 1, 1, 1)
    noise, picture = values(seed=9), values(seed=5)
    noisy = {"tgt": a.sqrt() * z_tgt + (1 - a).sqrt() * noise, "src": a.sqrt() * z_src + (1 - a).sqrt() * noise}
    eps = predict_branches(
        network, score.branches, latents_noisy=noisy, timesteps=T, prompts=prompts,
        image_condition=picture if any(branch.image == "src" for branch in score.branches) else None,
    )  # fmt: skip
    return eps, ScoreInputs(
        latents_tgt=z_tgt, latents_src=z_src, latents_noisy_tgt=noisy["tgt"], latents_noisy_src=noisy["src"],
        noise=noise, timesteps=T, alphas_cumprod_table=ALPHAS, step=3, num_steps=10, image_condition=picture,
        generators=(torch.Generator().manual_seed(1),),
    )  # fmt: skip


def compute(score, z_tgt, z_src, **kwargs):
    eps, extra = inputs(score, z_tgt, z_src, **kwargs)
    return score(eps, extra)


def test_ssd_coefficients():
    weights = SSD().weights
    assert weights[Branch("tgt", "tgt")] == 9.25
    assert weights[Branch("tgt", "src")] == -2.75
    assert weights[Branch("tgt", "null")] == -5.5
    assert weights[Branch("src", "null")] == -1.0
    assert list(ssd_paper().weights.values()) == [13.0, -5.5, -5.5, -2.0]


@pytest.mark.parametrize(
    "score", [SSD(), ssd_paper(), CSD(5.0, 3.0), SSDInstructPix2Pix(), DreamCatalystInstructPix2Pix()]
)
def test_weights_sum_to_zero(score):
    assert sum(score.weights.values()) == pytest.approx(0)


@pytest.mark.parametrize(
    "score",
    [
        SSD(), FocusedSSD(), CSD(5.0, 3.0), DDS(), SSDInstructPix2Pix(), PDS(), DreamCatalyst(),
        DreamCatalystInstructPix2Pix(),
    ],
)  # fmt: skip
def test_a_constant_added_to_the_network_changes_nothing(score):
    z, z_src = values(seed=1), values(seed=2)
    shifted = compute(score, z, z_src, network=lambda *args: denoiser(*args) + 3.0)
    torch.testing.assert_close(shifted, compute(score, z, z_src))


def test_ssd_is_csd_plus_null_delta():
    w_p, w_t, w_e = 3.0, 1.3, 2.0
    score = SSD(w_p, w_t, w_e, id_weight=0.0)
    eps, _ = inputs(score, values(seed=1), values(seed=2))
    null_delta = eps[Branch("tgt", "null")] - eps[Branch("src", "null")]
    torch.testing.assert_close(score(eps), CSD(w_p + w_e, w_p - w_t)(eps) + w_t * null_delta)


def test_ssd_without_trajectory_and_enhancement_is_the_prompt_difference():
    score = SSD(3.0, 0.0, 0.0, id_weight=0.0)
    assert set(score.branches) == {Branch("tgt", "tgt"), Branch("tgt", "src")}
    eps, _ = inputs(score, values(seed=1), values(seed=2))
    torch.testing.assert_close(score(eps), CSD(3.0, 3.0)(eps))


def test_zero_enhancement_needs_one_branch_less():
    assert len(SSD().branches) == 4
    assert set(SSD(enhance_weight=0.0).branches) == {Branch("tgt", "tgt"), Branch("tgt", "src"), Branch("src", "null")}
    assert len(CSD(7.5, 7.5).branches) == 2
    assert len(CSD(7.5, 2.5).branches) == 3


def test_predictions_without_a_coefficient_are_not_asked_for():
    """Guidance scales of 0 and 1, equal scales of InstructPix2Pix, NFSD's negative prompt at small t."""
    src, tgt = Branch("src", "src"), Branch("tgt", "tgt")
    for score in (DDS(1.0), PDS(1.0), DreamCatalyst(1.0)):
        assert set(score.branches) == {src, tgt}
    assert SDS(1.0).branches == (tgt,)
    assert SDS(0.0).branches == (Branch("tgt", "null"),)
    assert len(DDS().branches) == len(PDS().branches) == 4
    picture = SSDInstructPix2Pix(text_scale=1.5, image_scale=1.5)
    assert Branch("tgt", "null", "src") not in picture.branches
    assert len(SSDInstructPix2Pix(image_scale=1.0).branches) == 3
    assert NFSD(1.0).branches == (tgt, Branch("tgt", "neg"))
    low, mixed = (ScoreInputs(timesteps=torch.tensor(timesteps)) for timesteps in ([199, 20], [199, 200]))
    assert Branch("tgt", "neg") not in NFSD().branches_at(low)
    assert NFSD().branches_at(mixed) == NFSD().branches


@pytest.mark.parametrize(
    "score", [SDS(1.0), DDS(1.0), PDS(1.0), DreamCatalyst(0.0), NFSD(1.0), SSDInstructPix2Pix(1.5)]
)
def test_a_skipped_prediction_changes_no_value(score):
    """The same as a scale next to it, which asks for everything."""
    field = "text_scale" if isinstance(score, SSDInstructPix2Pix) else "guidance_scale"
    near = dataclasses.replace(score, **{field: getattr(score, field) + 1e-9})
    assert len(near.branches) > len(score.branches)
    z, z_src = values(seed=1), values(seed=2)
    torch.testing.assert_close(compute(score, z, z_src), compute(near, z, z_src), rtol=1e-6, atol=1e-6)


def test_null_edit():
    same = dict(PROMPT_ROWS, tgt=PROMPT_ROWS["src"])
    z = values(seed=3)
    for score in (DDS(), CSD(4.0, 4.0), PDS(), DreamCatalyst(), FocusedSSD()):
        assert compute(score, z, z, prompts=same).abs().max() < 1e-12, score
    score = SSD()
    eps, extra = inputs(score, z, z, prompts=same)
    left = (1.0 + 5.5) * (eps[Branch("tgt", "src")] - eps[Branch("tgt", "null")])
    torch.testing.assert_close(score(eps, extra), left)
    all_null = dict.fromkeys(PROMPTS, PROMPT_ROWS["null"])
    assert compute(score, z, z, prompts=all_null).abs().max() < 1e-12


def test_null_edit_of_the_scores_that_read_no_source():
    """SDS never vanishes, NFSD where all prompts agree and t is not small, InstructPix2Pix keeps its guidance."""
    same = dict(PROMPT_ROWS, tgt=PROMPT_ROWS["src"])
    all_null = dict.fromkeys(PROMPTS, PROMPT_ROWS["null"])
    z = values(seed=3)
    assert compute(SDS(), z, z, prompts=same).abs().mean() > 0.1
    assert compute(SDS(), z, z, prompts=all_null).abs().mean() > 0.1
    assert compute(NFSD(), z, z, prompts=all_null).abs().max() < 1e-12
    assert compute(NFSD(), z, z, prompts=same).abs().mean() > 0.1
    assert compute(NFSD(domain_timestep=1000), z, z, prompts=all_null).abs().mean() > 0.1
    score = SSDInstructPix2Pix()
    eps, extra = inputs(score, z, z, prompts=same)
    full, picture, plain, _ = (eps[branch] for branch in score.branches)
    torch.testing.assert_close(score(eps, extra), 7.5 * (full - picture) + 1.5 * (picture - plain))


def test_focused_ssd_by_hand():
    """The focus weighs the edit terms alone; the trajectory term has the source prompt twice."""
    score, z, z_src = FocusedSSD(), values(seed=1), values(seed=2)
    eps, extra = inputs(score, z, z_src)
    tgt, src, null, anchor = (eps[Branch(*names)] for names in (
        ("tgt", "tgt"), ("tgt", "src"), ("tgt", "null"), ("src", "src"))
    )  # fmt: skip
    weight = focus(tgt - src)
    assert weight.shape == (2, 1, 5, 3)
    a, t_frac = ALPHAS[T].view(-1, 1, 1, 1), (T / 1000).view(-1, 1, 1, 1)
    expected = weight * (3.75 * (tgt - src) + 2.0 * (tgt - null)) + (src - anchor)
    torch.testing.assert_close(score(eps, extra), expected + 0.075 * t_frac.exp() * a.sqrt() * (z - z_src))
    assert len(FocusedSSD(enhance_weight=0.0).branches) == len(FocusedSSD(cross_trajectory_weight=0.0).branches) == 3


def test_the_focus_is_where_prompts_disagree():
    difference = torch.zeros(2, 4, 16, 16)
    difference[0, :, 3:6, 8:12] = torch.randn(4, 3, 4, generator=torch.Generator().manual_seed(0))
    difference[1] = 0.3
    weight = focus(difference)
    assert weight[0, 0, 3:6, 8:12].min() > 0.9
    assert weight[0, 0, 8:].max() == 0
    torch.testing.assert_close(weight[1], torch.ones(1, 16, 16))
    torch.testing.assert_close(focus(1e-3 * difference), weight)
    assert focus(torch.zeros(1, 4, 8, 8)).abs().max() == 0


def test_id_term_acts_on_noisy_latents():
    z, z_src = values(seed=1), values(seed=2)
    difference = compute(SSD(), z, z_src) - compute(SSD(id_weight=0.0), z, z_src)
    a, t_frac = ALPHAS[T].view(-1, 1, 1, 1), (T / 1000).view(-1, 1, 1, 1)
    torch.testing.assert_close(difference, 0.075 * t_frac.exp() * a.sqrt() * (z - z_src))


def test_pds_identity_is_zero_for_consecutive_timesteps_only():
    for stride, expected in ((1, 0.0), (2, 0.31)):
        score = PDS(stride=stride)
        t = torch.tensor([101])
        rows = [values.view(1, 1, 1, 1) for values in (ALPHAS[t], ALPHAS[t - stride], 1 - ALPHAS[t] / ALPHAS[t - 1])]
        psi, chi = score.coefficients(*rows)
        assert float(psi) == pytest.approx(expected, abs=0.01)
        assert 0.05 < float(chi) < 0.3


def test_pds_equals_the_posterior_difference_it_comes_from():
    """psi and chi against Eq. 8: the difference of stochastic latents, computed with noise and all."""
    score, z, z_src = PDS(guidance_scale=3.0), values(seed=1), values(seed=2)
    eps, extra = inputs(score, z, z_src)
    a, a_prev, beta = extra.alphas_cumprod, extra.alphas_cumprod_before(2), extra.betas
    noise, other = values(seed=9), values(seed=8)

    def stochastic_latent(latents, cond, null):
        x_t = a.sqrt() * latents + (1 - a).sqrt() * noise
        x_prev = a_prev.sqrt() * latents + (1 - a_prev).sqrt() * other
        x_0 = (x_t - (1 - a).sqrt() * guided(eps[cond], eps[null], 3.0)) / a.sqrt()
        mean = a_prev.sqrt() * beta / (1 - a) * x_0 + (1 - beta).sqrt() * (1 - a_prev) / (1 - a) * x_t
        return (x_prev - mean) / ((1 - a_prev) * beta / (1 - a)).sqrt()

    tgt = stochastic_latent(z, Branch("tgt", "tgt"), Branch("tgt", "null"))
    src = stochastic_latent(z_src, Branch("src", "src"), Branch("src", "null"))
    torch.testing.assert_close(score(eps, extra), tgt - src)


def test_sds_subtracts_the_noise():
    score, z = SDS(guidance_scale=2.0), values(seed=1)
    eps, extra = inputs(score, z, z)
    guided_eps = eps[Branch("tgt", "null")] + 2 * (eps[Branch("tgt", "tgt")] - eps[Branch("tgt", "null")])
    variance = 1 - ALPHAS[T].view(-1, 1, 1, 1)
    torch.testing.assert_close(score(eps, extra), variance * (guided_eps - extra.noise))
    uniform = dataclasses.replace(score, weighting="uniform")
    torch.testing.assert_close(uniform(eps, extra), guided_eps - extra.noise)
    fantasia3d = dataclasses.replace(score, weighting="fantasia3d")
    signal = ALPHAS[T].sqrt().view(-1, 1, 1, 1)
    torch.testing.assert_close(fantasia3d(eps, extra), signal * variance * (guided_eps - extra.noise))


def test_nfsd_changes_its_domain_term_at_200():
    score = NFSD(guidance_scale=0.0)
    eps, _ = inputs(score, values(seed=1), values(seed=2))
    null, neg = eps[Branch("tgt", "null")], eps[Branch("tgt", "neg")]
    result = score(eps, timesteps=torch.tensor([199, 200]))
    torch.testing.assert_close(result[0], null[0])
    torch.testing.assert_close(result[1], (null - neg)[1])


def test_nfsd_by_hand():
    """delta_D + s delta_C on both sides of the domain timestep, with the published s."""
    eps, _ = inputs(NFSD(), values(seed=1), values(seed=2))
    tgt, null, neg = (eps[Branch("tgt", prompt)] for prompt in ("tgt", "null", "neg"))
    result = NFSD()(eps, timesteps=torch.tensor([199, 200]))
    torch.testing.assert_close(result[0], (null + 7.5 * (tgt - null))[0])
    torch.testing.assert_close(result[1], (null - neg + 7.5 * (tgt - null))[1])


@pytest.mark.parametrize(("fields", "edit_weights"), [
    ({}, {0.2: 0.643, 0.5: 0.820, 0.9: 0.970}), ({"delta": 0.05, "gamma": 0.2}, {0.2: 0.161, 0.5: 0.205, 0.9: 0.242}),
])  # fmt: skip
def test_dream_catalyst_weighs_the_delta_by_its_timestep(fields, edit_weights):
    """On equal latents the edit weight alone is left; its values were worked out apart from the code."""
    z = values(seed=1)
    eps, _ = inputs(DreamCatalyst(), z, z)
    score, delta = DreamCatalyst(**fields), DDS()(eps)
    for t_frac, weight in edit_weights.items():
        rows = torch.full((2, 1, 1, 1), t_frac, dtype=torch.float64)
        result = score(eps, latents_tgt=z, latents_src=z, t_frac=rows)
        torch.testing.assert_close(result, weight * delta, rtol=4e-3, atol=1e-9)


def test_dream_catalyst_by_hand():
    """(0.2 + 0.8 t^(1/e)) times the difference of guided predictions, and 0.075 exp(t) times that of clean latents."""
    score, z, z_src = DreamCatalyst(), values(seed=1), values(seed=2)
    eps, extra = inputs(score, z, z_src)

    def guided_by_hand(latents, prompt):
        return 7.5 * eps[Branch(latents, prompt)] - 6.5 * eps[Branch(latents, "null")]

    delta = guided_by_hand("tgt", "tgt") - guided_by_hand("src", "src")
    result = score(eps, extra)
    for row, t_frac in enumerate((0.4, 0.7)):
        edit_weight = 0.2 + 0.8 * math.exp(math.log(t_frac) / math.e)
        expected = edit_weight * delta[row] + 0.075 * math.exp(t_frac) * (z[row] - z_src[row])
        torch.testing.assert_close(result[row], expected)


def test_dream_catalyst_on_instruct_pix2pix_by_hand():
    """Guided predictions of both sides apart, as the released code has them; five rows of its six."""
    score, z, z_src = DreamCatalystInstructPix2Pix(), values(seed=1), values(seed=2)
    assert len(score.branches) == 5
    eps, extra = inputs(score, z, z_src)
    tgt = {(b.prompt, b.image): value for b, value in eps.items() if b.latents == "tgt"}
    src = {(b.prompt, b.image): value for b, value in eps.items() if b.latents == "src"}
    assert set(src) == {("null", "src"), ("null", "none")}
    full, picture, plain = tgt["tgt", "src"], tgt["null", "src"], tgt["null", "none"]
    eps_tgt = plain + 7.5 * (full - picture) + 1.5 * (picture - plain)
    eps_src = src["null", "none"] + 1.5 * (src["null", "src"] - src["null", "none"])
    result = score(eps, extra)
    for row, t_frac in enumerate((0.4, 0.7)):
        weight = 0.2 + 0.8 * math.exp(math.log(t_frac) / math.e)
        expected = weight * (eps_tgt - eps_src)[row] + 0.075 * math.exp(t_frac) * (z[row] - z_src[row])
        torch.testing.assert_close(result[row], expected)
    eps, extra = inputs(score, z, z)
    left = 7.5 * (eps[Branch("tgt", "tgt", "src")] - eps[Branch("tgt", "null", "src")])
    one = torch.ones(2, 1, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(score(eps, latents_tgt=z, latents_src=z, t_frac=one), left)
    assert len(DreamCatalystInstructPix2Pix(image_scale=1.0).branches) == 3


def test_instruct_pix2pix_evaluates_four_rows():
    score = SSDInstructPix2Pix()
    assert len(score.branches) == 4
    eps, extra = inputs(score, values(seed=1), values(seed=2))
    full, picture, plain, source = (eps[branch] for branch in score.branches)
    expected = plain + 7.5 * (full - picture) + 1.5 * (picture - plain) - source
    same = {"latents_noisy_tgt": extra.latents_noisy_tgt, "latents_noisy_src": extra.latents_noisy_tgt}
    torch.testing.assert_close(score(eps, t_frac=extra.t_frac, **same), expected)


@pytest.mark.parametrize("name", SCORES)
def test_one_network_call_and_no_branch_twice(name):
    score, calls = SCORES[name](), []

    def counting(latents, timesteps, prompts, condition=None):
        calls.append(len(latents))
        return denoiser(latents, timesteps, prompts, condition)

    compute(score, values(seed=1), values(seed=2), network=counting)
    assert calls == [2 * len(set(score.branches))]


@pytest.mark.parametrize("name", SCORES)
def test_views_do_not_mix(name):
    """A batch of two views equals the two views one at a time."""
    score = SCORES[name]()
    z, z_src = values(seed=1), values(seed=2)
    changed = z.clone()
    changed[1] += 1.0
    torch.testing.assert_close(compute(score, changed, z_src)[0], compute(score, z, z_src)[0])


def test_predict_branches_asks_for_each_row_with_its_own_prompt():
    branches = (Branch("tgt", "tgt"), Branch("src", "null"), Branch("tgt", "tgt"))
    noisy = {"tgt": values(seed=1), "src": values(seed=2)}
    eps = predict_branches(denoiser, branches, latents_noisy=noisy, timesteps=T, prompts=PROMPT_ROWS)
    assert set(eps) == set(branches)
    torch.testing.assert_close(eps[Branch("src", "null")], denoiser(noisy["src"], T, PROMPT_ROWS["null"]))
    torch.testing.assert_close(eps[Branch("tgt", "tgt")], denoiser(noisy["tgt"], T, PROMPT_ROWS["tgt"]))
    assert predict_branches(denoiser, (), latents_noisy=noisy, timesteps=T, prompts=PROMPT_ROWS) == {}


@pytest.mark.parametrize("given", [None, values(seed=5)])
def test_a_picture_that_is_read_has_to_be_given(given):
    """Without it, InstructPix2Pix would be computed on blank pictures."""
    noisy = {"tgt": values(seed=1), "src": values(seed=2)}
    asked = {"latents_noisy": noisy, "timesteps": T, "prompts": PROMPT_ROWS, "image_condition": given}
    branches = SSDInstructPix2Pix().branches
    if given is not None:
        assert set(predict_branches(denoiser, branches, **asked)) == set(branches)
        return
    with pytest.raises(ValueError, match="2 of 4 predictions read the source picture; give image_condition"):
        predict_branches(denoiser, branches, **asked)


def test_settled_ssd_is_one_score_and_then_the_other():
    score, z, z_src = SettledSSD(), values(seed=1), values(seed=2)
    early, late = (ScoreInputs(**vars(inputs(score, z, z_src)[1]) | {"step": step, "num_steps": 10}) for step in (4, 5))
    eps, _ = inputs(score, z, z_src)
    torch.testing.assert_close(score(eps, early), SSD(enhance_weight=1.0)(eps, early))
    torch.testing.assert_close(score(eps, late), DDS(2.5)(eps, late))
    assert set(score.branches_at(early)) == set(SSD().branches)
    assert set(score.branches_at(late)) == set(DDS().branches)
    assert len(score.branches_at(early)) == len(score.branches_at(late)) == 4
    assert SettledSSD(settle_from=1.0).branches_at(late) == SSD().branches


def test_local_ssd_is_settled_ssd_whose_comparing_terms_are_larger():
    score, z, z_src = LocalSSD(), values(seed=1), values(seed=2)
    early, late = (ScoreInputs(**vars(inputs(score, z, z_src)[1]) | {"step": step, "num_steps": 10}) for step in (4, 5))
    eps, _ = inputs(score, z, z_src)
    by_hand = SSD(cross_prompt_weight=5.6, cross_trajectory_weight=2.0, enhance_weight=1.0)
    torch.testing.assert_close(score(eps, early), by_hand(eps, early))
    torch.testing.assert_close(score(eps, late), DDS(2.5)(eps, late))
