"""The embedded InstructPix2Pix: the widened network, and a few steps of training end to end."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from threestudio_ssd.diffusion import load_backbone
from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.training import ip2p
from threestudio_ssd.training.ip2p import what_is_given, widened
from threestudio_ssd.training.loop import Worker
from threestudio_ssd.training.pairs import write_pair_shards


def test_a_twentieth_of_samples_lacks_text_image_or_both():
    has_text, has_image = what_is_given(np.random.default_rng(0), 40_000)
    shares = [float(np.mean(each)) for each in (~has_text & has_image, has_text & ~has_image, ~has_text & ~has_image)]
    assert shares == pytest.approx([0.05] * 3, abs=0.005)


def test_the_widened_network_is_the_original_until_it_learns():
    unet = random_components(image_size=64).network
    wide = widened(unet)
    latents, hidden, t = torch.randn(2, 4, 16, 16), torch.randn(2, 5, 32), torch.tensor([10, 900])
    with torch.no_grad():
        expected = unet(latents, t, hidden).sample
        predicted = wide(torch.cat([latents, torch.randn(2, 4, 16, 16)], dim=1), t, hidden).sample
    torch.testing.assert_close(predicted, expected, rtol=1e-4, atol=1e-4)


def test_a_few_steps_make_a_model_that_reads_images(tmp_path):
    base = tmp_path / "base"
    save_components(random_components("v_prediction", image_size=64), base)
    work = tmp_path / "tiny-ip2p"
    write_pair_shards(Worker(), work / "pairs", 2, 3)
    recipe = replace(ip2p.RECIPE, steps=2, batch_size=2)
    ip2p.train(Worker(), work / "pairs", base, work, recipe)
    state = torch.load(work / "ip2p.ckpt", weights_only=True)
    assert state["step"] == 2
    ip2p.train(Worker(), work / "pairs", base, work, recipe.with_steps(3))
    resumed = torch.load(work / "ip2p.ckpt", weights_only=True)
    assert resumed["step"] == 3
    new = resumed["modules"]["unet"]["conv_in.weight"][:, 4:]
    assert new.abs().max() > 0
    ip2p.save(base, work, tmp_path / "out")
    assert "_name_or_path" not in (tmp_path / "out" / "unet" / "config.json").read_text()
    backbone = load_backbone(tmp_path / "out")
    assert backbone.has_image_condition
    assert backbone.prediction_type == "v_prediction"
    assert "3 steps" in (tmp_path / "out" / "README.md").read_text()
    latents = torch.randn(1, 4, 16, 16)
    condition = backbone.encode_condition(torch.rand(1, 3, 64, 64))
    eps = backbone.predict_noise(latents, 500, backbone.encode_prompts(["make it blue"]), condition)
    assert torch.isfinite(eps).all()
