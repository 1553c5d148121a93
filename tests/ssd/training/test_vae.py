"""The autoencoder's training: its batches, and a few steps that make a model."""

import pytest
import torch
from diffusers import AutoencoderKL

from threestudio_ssd.errors import ConfigError
from threestudio_ssd.training import vae
from threestudio_ssd.training.loop import Worker
from threestudio_ssd.training.scenes import load_toy_data


def test_a_batch_is_half_renders_as_they_are_and_ends_with_photographs(toy_shards, generator):
    data, photographs = load_toy_data(toy_shards, is_held_out=False), [torch.zeros(3, 40, 50, dtype=torch.uint8)]
    data.images[:] = 200
    pieces = vae.image_batch(data, photographs, 10, 32, generator)
    assert pieces.shape == (10, 3, 32, 32)
    assert (pieces[:5] == 200 / 255).all()
    assert all((pieces[i] - 200 / 255).abs().max() > 0.01 for i in range(5, 10))
    whole = vae.image_batch(data, photographs, 3, 64, generator)
    assert whole.shape == (3, 3, 64, 64)
    assert (whole[0] == 200 / 255).all()


def test_the_same_generator_gives_the_same_batch(toy_shards, photographs):
    data, photos = load_toy_data(toy_shards, is_held_out=False), vae.load_photographs(photographs)
    assert photos[0].shape == (3, 72, 80)
    first, second = (vae.image_batch(data, photos, 10, 32, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)


def test_a_few_steps_make_a_model_with_latents_of_unit_variance(toy_shards, photographs, tmp_path):
    lines = []
    training = vae.train(Worker(info=lines.append), toy_shards, photographs, tmp_path, vae.RECIPE.with_steps(5))
    assert training.step == 5
    assert "held-out clean" in lines[-1]
    model = AutoencoderKL.from_pretrained(tmp_path / "vae")
    means, stds = vae.encode(model, load_toy_data(toy_shards, is_held_out=False).images)
    assert means.shape == stds.shape == (44, 8, 16, 16)
    assert (means.float() * model.config.scaling_factor).std().item() == pytest.approx(1, abs=0.02)


def test_a_folder_without_photographs_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no \.jpg in .*; set run\.photos"):
        vae.load_photographs(tmp_path)
