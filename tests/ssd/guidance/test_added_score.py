"""A score from one file outside the package: found by its config name, run by the guidance, named in messages."""

import sys

import pytest
import torch

import threestudio
from threestudio_ssd.diffusion import random_backbone
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.guidance import EditGuidance, build_score
from threestudio_ssd.scores import SCORES, Branch, predict_branches
from threestudio_ssd.seeds import Stream, generator

FILE = '''"""A score that fades over the run, by the noise level of half its timestep, with noise of its own."""

from dataclasses import dataclass

from threestudio_ssd.scores import Branch, Predictions, Score, ScoreInputs, register_score


@register_score("fading")
@dataclass(frozen=True)
class Fading(Score):
    """(1 - i / I) abar_(t/2) w (eps(z, y) - eps(z, null)) + v noise."""

    weight: float = 2.0
    """w."""
    jitter: float = 0.5
    """v."""
    is_late: bool = False
    """Whether nothing is fed back before the middle of the run."""

    @property
    def branches(self) -> tuple[Branch, ...]:
        return Branch("tgt", "tgt"), Branch("tgt", "null")

    def evaluate(self, eps: Predictions, inputs: ScoreInputs):
        progress = inputs.step / inputs.num_steps
        strength = (1 - progress) * self.weight * inputs.alphas_cumprod_at(inputs.timesteps // 2)
        score = strength * (eps[Branch("tgt", "tgt")] - eps[Branch("tgt", "null")]) + self.jitter * inputs.new_noise()
        return 0 * score if self.is_late and progress < 0.5 else score
'''


@pytest.fixture(autouse=True)
def _fading(tmp_path, monkeypatch):
    """The file, loaded as any plugin is, and gone afterwards."""
    monkeypatch.setenv("THREESTUDIO_PLUGIN_FOLDERS", "")
    (tmp_path / "fading-score").mkdir()
    (tmp_path / "fading-score" / "__init__.py").write_text(FILE)
    threestudio.load_plugins(tmp_path)
    yield
    del SCORES["fading"], sys.modules["fading_score"]


def make(**fields):
    backbone = random_backbone()
    guidance = EditGuidance({"score": {"name": "fading", **fields}}, backbone=backbone)
    rows = backbone.encode_prompts(["a blue ball", ""])
    return guidance, {"tgt": rows[0], "null": rows[1]}, backbone


def latents_of(count, seed):
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_a_step_feeds_back_what_the_file_says():
    guidance, prompts, backbone = make(weight=3)
    assert guidance.prompt_names == {"tgt", "null"}
    latents = latents_of(2, 1).requires_grad_()
    output = guidance.latent_step(latents, latents_of(2, 2), prompts, step=2, num_steps=10, seed=7)
    noise = torch.randn(2, 4, 8, 8, generator=generator(7, 2, Stream.DIFFUSION))
    timesteps = torch.full((2,), output.timestep)
    eps = predict_branches(
        backbone.predict_noise, guidance.score.branches, timesteps=timesteps,
        latents_noisy={"tgt": backbone.add_noise(latents.detach(), noise, timesteps)},
        prompts={name: row.expand(2) for name, row in prompts.items()},
    )  # fmt: skip
    edit = eps[Branch("tgt", "tgt")] - eps[Branch("tgt", "null")]
    own = torch.randn(2, 4, 8, 8, generator=generator(7, 2, Stream.SCORE))
    expected = 0.8 * 3 * backbone.alphas_cumprod[output.timestep // 2] * edit + 0.5 * own
    torch.testing.assert_close(output.score, expected, rtol=1e-3, atol=1e-3)
    (gradient,) = torch.autograd.grad(output.loss, latents)
    torch.testing.assert_close(gradient, output.score / 2, rtol=1e-5, atol=1e-5)


def test_its_own_noise_is_each_edit_s_own():
    guidance, prompts, _ = make()
    tgt, src, run = latents_of(4, 1), latents_of(4, 2), {"step": 2, "num_steps": 10}
    whole = guidance.latent_step(tgt, src, prompts, seed=[7, 8], **run).score
    alone = guidance.latent_step(tgt[2:], src[2:], prompts, seed=8, **run).score
    torch.testing.assert_close(whole[2:], alone, rtol=1e-3, atol=1e-3)


def test_its_fields_are_keys_and_messages_know_it():
    assert build_score({"name": "fading", "weight": 3}).weight == 3.0
    assert build_score({"name": "fading", "is_late": True}).is_late is True
    with pytest.raises(ConfigError) as error:
        build_score({"name": "fadign"})
    assert "vsd, piva, fading, ssd-code" in error.value.expected
    assert error.value.fix == "did you mean fading?"
    with pytest.raises(ConfigError) as error:
        build_score({"name": "fading", "wieght": 3})
    assert (error.value.expected, error.value.fix) == ("one of weight, jitter, is_late", "did you mean weight?")
    with pytest.raises(ConfigError, match=r"score.is_late is 1; expected true or false; set .*is_late=false"):
        build_score({"name": "fading", "is_late": 1})
