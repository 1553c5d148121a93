"""Inversion: exact on a perfect network, the source prompt up and the target down, what is kept is kept."""

from dataclasses import replace

import torch

from tests.ssd.editors.loaded import check_edit, loaded
from threestudio_ssd.editors import Inversion

FEW = Inversion(num_steps=4, min_steps=2)


def test_what_every_editor_does(views):
    check_edit(loaded(FEW), views)


def test_a_perfect_network_gives_the_image_back(whole, generator):
    """With one noise as every prediction, the way up and the way down are the same line."""
    editor = loaded(replace(FEW, guidance_scale=7.5))
    backbone = editor.network.backbone
    latents = backbone.encode(whole.images)
    noise = torch.randn(latents.shape, generator=generator)
    asked = []

    def predict(latents_noisy, timesteps, prompts, image_condition=None):
        asked.append((int(timesteps), len(prompts)))
        return noise.repeat(len(latents_noisy) // len(noise), 1, 1, 1)

    backbone.predict_noise = predict
    torch.testing.assert_close(editor(whole), backbone.decode(latents), atol=1e-4, rtol=0)
    assert [rows for _, rows in asked] == [3, 3, 6, 6]
    up, down = asked[:2], asked[2:]
    assert [time for time, _ in up] == [0, down[1][0]]


def test_the_same_prompt_comes_closer_with_shorter_steps(whole):
    """On the exact denoiser of standard normal latents, eps = sqrt(1 - abar) z."""

    def error(num_steps):
        editor = loaded(Inversion(num_steps=num_steps, min_steps=1, guidance_scale=1.0))
        backbone = editor.network.backbone
        backbone.predict_noise = lambda latents, t, *rest: (1 - backbone.alphas_cumprod[t]).sqrt() * latents
        expected = backbone.decode(backbone.encode(whole.images))
        return float((editor(whole) - expected).abs().mean())

    assert error(80) < 0.2 * error(10)


def test_the_noise_is_no_random_one(whole):
    editor = loaded(FEW)
    assert torch.equal(editor(whole), editor(replace(whole, seeds=[0, 0, 0], round=3)))


def test_strength_is_how_far_it_is_inverted(whole):
    editor = loaded(replace(FEW, num_steps=20))
    editor(replace(whole, strength=0.25))
    assert editor.network.counters.network_calls == 2 * 5
    assert editor.network.counters.rows == 5 * 3 + 5 * 6
