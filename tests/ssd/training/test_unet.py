"""The U-Net's training: what its batches and its loss look at, and a few steps that make a model."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.training import decoder, unet, vae
from threestudio_ssd.training.loop import Worker
from threestudio_ssd.training.unet import (
    TIMES,
    Sample,
    center_weights,
    held_out_loss,
    make_scheduler,
    training_timesteps,
)


def test_timesteps_of_training_cover_the_range_and_are_denser_where_patterns_are_decided():
    drawn = torch.cat([training_timesteps(np.random.default_rng(seed), 16, 1000) for seed in range(200)])
    assert drawn.min() >= 0
    assert drawn.max() < 1000
    assert (drawn < 50).any()
    assert (drawn >= 950).any()
    for low, high in ((0.1, 0.55), (0.55, 0.65), (0.65, 0.85), (0.9, 1.0)):
        everywhere = 1 - sum(share for share, _ in TIMES)
        expected = everywhere * (high - low) + sum(
            share * max(0.0, min(high, end) - max(low, start)) / (end - start) for share, (start, end) in TIMES
        )
        share = ((drawn >= 1000 * low) & (drawn < 1000 * high)).float().mean().item()
        assert abs(share - expected) < 0.02, (low, high)
    assert len(training_timesteps(np.random.default_rng(0), 5, 1000)) == 5


def test_the_middle_counts_more_and_the_mean_weight_is_one():
    weights = center_weights(16)
    assert weights.mean().item() == pytest.approx(1.0, abs=1e-6)
    assert weights[8, 8] > 2 * weights[0, 0]
    torch.testing.assert_close(weights, weights.flip(0).T)


def test_the_held_out_loss_is_the_same_for_the_same_seed():
    parts = random_components("v_prediction", image_size=16)
    modules = {"unet": parts.network, "text_encoder": parts.text_networks[0]}

    def draw(size, generator):
        latents = torch.randn(size, parts.network.config.in_channels, 4, 4, generator=generator)
        return Sample(latents, torch.randint(9, (size, 5), generator=generator))

    first, again, other = (held_out_loss(modules, make_scheduler().alphas_cumprod, draw, 2, seed) for seed in (1, 1, 2))
    assert first == again
    assert first > 0
    assert first != other


def test_a_few_steps_of_each_part_make_a_pipeline(toy_shards, photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(unet, "HELD_OUT_BATCHES", 1)
    vae.train(Worker(), toy_shards, photographs, tmp_path, vae.RECIPE.with_steps(5))
    lines = []
    training = unet.train(Worker(info=lines.append), toy_shards, tmp_path, unet.RECIPE.with_steps(2))
    assert training.step == 2
    assert "held-out" in lines[-1]
    seeds = torch.load(tmp_path / "latents.pt", weights_only=True)["seeds"]
    assert (seeds % 20 != 0).all()
    decoder.train(Worker(), toy_shards, tmp_path, decoder.RECIPE.with_steps(2))
    unet.save(tmp_path, tmp_path / "out", decoder.load(tmp_path))

    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert pipeline.unet.config.in_channels == pipeline.vae.config.latent_channels == 8
    averaged = training.average["unet"].conv_in.weight
    torch.testing.assert_close(pipeline.unet.conv_in.weight, averaged, atol=1e-3, rtol=1e-3)
    sharpened = decoder.load(tmp_path).decoder.conv_in.weight
    torch.testing.assert_close(pipeline.vae.decoder.conv_in.weight, sharpened, atol=1e-3, rtol=1e-3)


def test_latents_are_encoded_again_for_another_autoencoder(toy_shards, tmp_path, monkeypatch):
    monkeypatch.setattr(unet, "HELD_OUT_BATCHES", 1)
    from diffusers import AutoencoderKL

    cached = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        AutoencoderKL(**vae.VAE_CONFIG).save_pretrained(tmp_path / "vae")
        unet.train(Worker(), toy_shards, tmp_path, unet.RECIPE.with_steps(1))
        cached.append(torch.load(tmp_path / "latents.pt", weights_only=True)["means"])
    assert torch.equal(cached[0], cached[1])
    assert not torch.equal(cached[0], cached[2])
