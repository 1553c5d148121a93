"""VSD and Piva in a step: two network calls, the equation by hand, a LoRA that learns and is restored byte for byte."""

import pytest
import torch

from threestudio_ssd.diffusion import random_backbone
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.guidance import EditGuidance
from threestudio_ssd.seeds import Stream, generator

RUN = {"num_steps": 10, "seed": 3}


def make(learning_rate=1e-2, score=None, kind="epsilon", **keys):
    backbone = random_backbone(kind)
    options = {"score": {"name": "vsd", **(score or {})}, "lora_network": {"learning_rate": learning_rate}, **keys}
    guidance = EditGuidance(options, backbone=backbone)
    rows = backbone.encode_prompts(["a blue ball", "", "a red ball"])
    return guidance, {name: rows[index] for index, name in enumerate(("tgt", "null", "src"))}, backbone


def latents_of(count=2, seed=0):
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def edit(guidance, prompts, latents, steps):
    for step in steps:
        latents = latents - 0.05 * guidance.latent_step(latents, latents_of(seed=2), prompts, step=step, **RUN).score
    return latents


def test_two_network_calls_and_four_rows_a_view():
    guidance, prompts, backbone = make()
    assert guidance.prompt_names == {"tgt", "null"}
    backbone.counters.reset()
    guidance.latent_step(latents_of(3), latents_of(3), prompts, step=0, **RUN)
    assert (backbone.counters.network_calls, backbone.counters.rows) == (2, 3 * 4)


def test_the_first_step_is_guidance_alone_and_later_ones_are_not():
    """Before any training eps_lora = eps(z, y), so that (s - 1)(eps(y) - eps(null)) remains, times 1 - abar."""
    guidance, prompts, backbone = make()
    tgt, noise = latents_of(2, 1), latents_of(2, 3)
    abar = backbone.alphas_cumprod[400]
    noisy = abar.sqrt() * tgt + (1 - abar).sqrt() * noise
    cond, null = (backbone.predict_noise(noisy, 400, prompts[name].expand(2)) for name in ("tgt", "null"))
    expected = (1 - abar) * 6.5 * (cond - null)
    first = guidance.compute_score(tgt, tgt, prompts, 400, noise)
    torch.testing.assert_close(first, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(guidance.compute_score(tgt, tgt, prompts, 400, noise), expected, atol=1e-3)


def test_with_a_scale_of_one_nothing_is_fed_back_before_training():
    guidance, prompts, _ = make(score={"guidance_scale": 1.0})
    latents = latents_of(2, 1)
    score = guidance.latent_step(latents, latents, prompts, step=0, **RUN).score
    assert score.abs().max() < 1e-5


def test_the_lora_learns_to_denoise_the_edit():
    guidance, prompts, backbone = make(learning_rate=1e-2)
    latents, noise = latents_of(2, 1), latents_of(2, 9)
    timesteps = torch.tensor([300, 700])
    noisy = backbone.add_noise(latents, noise, timesteps)

    def error():
        with guidance.variational.lora.active():
            return (backbone.predict_noise(noisy, timesteps, prompts["tgt"].expand(2)) - noise).square().mean()

    before = error()
    for step in range(10):
        guidance.latent_step(latents, latents, prompts, step=step, **RUN)
    assert error() < before


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_lora_is_trained_on_what_the_network_predicts(kind, monkeypatch):
    """Its loss is the mean squared error of the network's own output: noise, or velocity."""
    guidance, prompts, backbone = make(kind=kind)
    losses, outputs = [], []
    monkeypatch.setattr(guidance.variational.lora, "update", lambda loss: losses.append(float(loss)))
    backbone.network.register_forward_hook(lambda module, given, output: outputs.append(output))
    latents = latents_of(2, 1)
    guidance.compute_score(latents, latents, prompts, 400, latents_of(2, 3), step=4, seeds=[2])
    draws = generator(2, 4, Stream.LORA)
    timesteps = torch.randint(backbone.num_timesteps, (2,), generator=draws)
    noise = torch.randn(latents.shape, generator=draws)
    abar = backbone.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    wanted = noise if kind == "epsilon" else abar.sqrt() * noise - (1 - abar).sqrt() * latents
    output = outputs[-1][0] if isinstance(outputs[-1], tuple) else outputs[-1].sample
    assert losses[0] == pytest.approx(float((output[2:] - wanted).square().mean()), rel=1e-3)


def test_seeds_draw_training_samples_of_their_own():
    drawn = []
    for seed in (0, 1):
        guidance, prompts, _ = make(learning_rate=1e-2)
        for _ in range(2):
            score = guidance.compute_score(
                latents_of(2, 1), latents_of(2, 1), prompts, 400, latents_of(2, 3), seeds=[seed]
            )
        drawn.append(score)
    assert not torch.allclose(*drawn, atol=1e-4)


def test_a_resumed_run_gives_the_same_bytes():
    guidance, prompts, _ = make()
    whole = edit(guidance, prompts, latents_of(seed=1), range(6))
    first, prompts, _ = make()
    half = edit(first, prompts, latents_of(seed=1), range(3))
    second, prompts, _ = make()
    second.load_state_dict(first.state_dict())
    assert torch.equal(edit(second, prompts, half, range(3, 6)), whole)
    fresh, prompts, _ = make()
    assert not torch.equal(edit(fresh, prompts, half, range(3, 6)), whole)


def test_it_takes_the_contrastive_term_too():
    guidance, prompts, backbone = make(cds={"weight": 3.0})
    backbone.counters.reset()
    output = guidance.latent_step(latents_of(1), latents_of(1, 2), prompts, step=0, **RUN)
    assert torch.isfinite(output.score).all()
    assert (backbone.counters.network_calls, backbone.counters.rows) == (3, 2 + 1 + 2)


def test_piva_teaches_each_prompt_its_own_images():
    """Under the source prompt the LoRA comes to expect the source, under the target prompt the edit."""
    guidance, prompts, backbone = make(score={"name": "piva"}, learning_rate=1e-2)
    edited, source, noise = latents_of(2, 1), latents_of(2, 2), latents_of(2, 9)
    timesteps = torch.tensor([500, 700])

    def error(latents, name):
        noisy = backbone.add_noise(latents, noise, timesteps)
        with guidance.variational.lora.active():
            return float((backbone.predict_noise(noisy, timesteps, prompts[name].expand(2)) - noise).square().mean())

    before = [error(edited, "tgt"), error(source, "src")]
    for step in range(10):
        guidance.latent_step(edited, source, prompts, step=step, **RUN)
    after = [error(edited, "tgt"), error(source, "src")]
    assert after[0] < before[0]
    assert after[1] < before[1]


def test_piva_makes_two_network_calls_and_eight_rows_a_view():
    guidance, prompts, backbone = make(score={"name": "piva"})
    assert guidance.prompt_names == {"tgt", "src", "null"}
    backbone.counters.reset()
    guidance.latent_step(latents_of(3), latents_of(3), prompts, step=0, **RUN)
    assert (backbone.counters.network_calls, backbone.counters.rows) == (2, 3 * 8)


def test_before_any_training_piva_is_dds_and_what_the_network_says_of_the_two_prompts():
    guidance, prompts, backbone = make(score={"name": "piva", "lambda_identity": 0.5})
    plain = EditGuidance({"score": {"name": "dds"}}, backbone=backbone)
    tgt, src, noise = latents_of(2, 1), latents_of(2, 2), latents_of(2, 3)
    noisy = backbone.add_noise(tgt, noise, torch.tensor([400, 400]))
    of_src, of_tgt = (backbone.predict_noise(noisy, 400, prompts[name].expand(2)) for name in ("src", "tgt"))
    expected = plain.compute_score(tgt, src, prompts, 400, noise) + 0.5 * (of_src - of_tgt)
    torch.testing.assert_close(guidance.compute_score(tgt, src, prompts, 400, noise), expected, rtol=1e-4, atol=1e-4)


def test_other_scores_have_no_lora_and_no_state():
    guidance = EditGuidance({"score": {"name": "dds"}}, backbone=random_backbone())
    assert guidance.variational is None
    assert guidance.state_dict() == {}
    assert not any("lora_" in name for name, _ in guidance.backbone.network.named_parameters())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"lora_network": {"rank": 0}}, "system.guidance.lora_network.rank is 0; expected at least 1; "
         "set system.guidance.lora_network.rank=4"),
        ({"lora_network": {"learning_rate": 0.0}}, "system.guidance.lora_network.learning_rate is 0.0; expected above "
         "0; set system.guidance.lora_network.learning_rate=0.0001"),
        ({"compile": True}, "system.guidance.compile is true, and system.guidance.score switches a LoRA on and off; "
         "expected a network that is not compiled; set system.guidance.compile=false"),
    ],
)  # fmt: skip
def test_wrong_settings_are_named(keys, message):
    with pytest.raises(ConfigError) as error:
        EditGuidance({"score": {"name": "vsd"}, **keys}, backbone=random_backbone())
    assert str(error.value) == message
