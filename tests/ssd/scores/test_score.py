"""The contract of a score: what it may read, what is said when that is not there, who may have which name."""

import dataclasses

import pytest
import torch

from threestudio_ssd.scores import DDS, PDS, SCORES, SDS, SSD, VSD, Branch, Score, ScoreInputs, register_score

SHAPE = (4, 3, 2, 5)
TABLE = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
TGT = Branch("tgt", "tgt")


def predictions(score):
    numbers = torch.Generator().manual_seed(0)
    return {branch: torch.randn(SHAPE, generator=numbers, dtype=torch.float64) for branch in score.branches}


def test_derived_inputs_follow_from_the_table():
    inputs = ScoreInputs(timesteps=torch.tensor([0, 1, 500, 999]), alphas_cumprod_table=TABLE)
    assert inputs.t_frac.shape == (4, 1, 1, 1)
    assert inputs.t_frac.flatten().tolist() == [0, 0.001, 0.5, 0.999]
    assert inputs.alphas_cumprod.flatten().tolist() == TABLE[[0, 1, 500, 999]].tolist()
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)[[1, 500, 999]]
    torch.testing.assert_close(inputs.betas.flatten()[1:], betas)
    assert inputs.betas.flatten()[0] == 0
    assert inputs.alphas_cumprod_before(2).flatten().tolist() == TABLE[[0, 0, 498, 997]].tolist()
    assert inputs.alphas_cumprod_at(inputs.timesteps // 2).flatten().tolist() == TABLE[[0, 0, 250, 499]].tolist()


def test_what_is_given_stands_before_what_would_be_derived():
    rows = torch.full((4, 1, 1, 1), 0.5)
    inputs = ScoreInputs(t_frac=rows, alphas_cumprod=rows, betas=rows, alphas_cumprod_prev=rows)
    assert inputs.t_frac is inputs.alphas_cumprod is inputs.betas is inputs.alphas_cumprod_before(7) is rows


def test_inputs_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ScoreInputs(step=1).step = 2


def test_the_noise_of_a_score_is_each_edit_s_own():
    def noise(*seeds, rows):
        generators = tuple(torch.Generator().manual_seed(seed) for seed in seeds)
        return ScoreInputs(latents_tgt=torch.zeros(rows, 3, 2, 5), generators=generators).new_noise()

    together = noise(5, 8, rows=4)
    assert torch.equal(together[:2], noise(5, rows=2))
    assert torch.equal(together[2:], noise(8, rows=2))
    assert not torch.equal(together[:2], together[2:])


def test_a_score_is_called_with_inputs_or_with_the_few_it_reads():
    score, noise = SDS(), torch.ones(SHAPE, dtype=torch.float64)
    eps, timesteps = predictions(score), torch.tensor([10, 20, 30, 40])
    inputs = ScoreInputs(noise=noise, timesteps=timesteps, alphas_cumprod_table=TABLE)
    expected = score(eps, noise=noise, alphas_cumprod=TABLE[timesteps].view(-1, 1, 1, 1))
    assert torch.equal(score(eps, inputs), expected)
    plain = SSD(id_weight=0.0)
    assert torch.equal(plain(predictions(plain), t_frac=None), plain(predictions(plain)))


@pytest.mark.parametrize(
    ("score", "given", "message"),
    [
        (SSD(), {}, "the score SSD reads latents_noisy_tgt, which was not given"),
        (SSD(), {"latents_noisy_tgt": torch.ones(SHAPE), "latents_noisy_src": torch.ones(SHAPE)},
         "the score SSD reads t_frac, which was not given"),
        (SDS(), {"noise": torch.ones(SHAPE), "timesteps": torch.tensor([1, 2, 3, 4])},
         "the score SDS reads alphas_cumprod, which was not given"),
        (VSD(), {"noise": torch.ones(SHAPE)}, "the score VSD reads alphas_cumprod, which was not given"),
        (PDS(), {}, "the score PDS reads timesteps, which was not given"),
        (DDS(), {"nose": 3}, "nose is no input of a score; the inputs are latents_tgt, latents_src, "),
        (DDS(), {"inputs": ScoreInputs(), "step": 3}, "DDS takes inputs or keywords, not both: step"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_with_its_score(score, given, message):
    with pytest.raises(TypeError) as error:
        score(predictions(score), **given)
    assert str(error.value).startswith(message)


def test_a_misspelt_attribute_is_no_input():
    class Misspelt(Score):
        branches = (TGT,)

        def evaluate(self, eps, inputs):
            return eps[TGT] * inputs.t_farc

    with pytest.raises(TypeError, match="the score Misspelt reads t_farc, which is no input of a score"):
        Misspelt()({TGT: torch.ones(SHAPE)}, t_frac=torch.ones(4, 1, 1, 1))


def test_another_object_s_missing_attribute_stays_what_it_is():
    class Broken(Score):
        branches = (TGT,)

        def evaluate(self, eps, inputs):
            return eps[TGT].no_such_method()

    with pytest.raises(AttributeError, match="no_such_method"):
        Broken()({TGT: torch.ones(SHAPE)})


@pytest.mark.parametrize("name", SCORES)
def test_every_score_keeps_the_contract(name):
    score = SCORES[name]()
    assert isinstance(score, Score)
    assert all(isinstance(branch, Branch) for branch in score.branches)
    for step, timestep in enumerate((999, 200, 199, 0)):
        inputs = ScoreInputs(timesteps=torch.tensor([timestep]), step=step, num_steps=4)
        assert set(score.branches_at(inputs)) <= set(score.branches)
    with pytest.raises(dataclasses.FrozenInstanceError):
        score.guidance_scale = 3.0


def test_a_name_belongs_to_one_score():
    with pytest.raises(ValueError, match="two scores are called 'dds': DDS and PDS"):
        register_score("dds")(PDS)
    with pytest.raises(TypeError):
        register_score("x")(dict)
    assert register_score("dds")(DDS) is DDS
    assert "x" not in SCORES
