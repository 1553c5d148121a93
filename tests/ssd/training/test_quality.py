"""The embedded model's quality: samples follow prompts, and figures come out of a miniature measurement."""

import json

import numpy as np
import torch

from threestudio_ssd.diffusion.random import random_backbone
from threestudio_ssd.toyworld import Attributes
from threestudio_ssd.training.quality import HELD_OUT_SEED, held_out_renders, hit_rates, measure, sample


def test_sampling_follows_its_prompts():
    backbone = random_backbone()
    images = sample(backbone, ["a red ball", "a blue ball"], 2.0, 3)
    assert images.shape[0] == 2
    assert torch.equal(images, sample(backbone, ["a red ball", "a blue ball"], 2.0, 3))
    assert not torch.equal(images[1], sample(backbone, ["a red ball", "a red cat"], 2.0, 3)[1])


def test_held_out_renders_follow_from_their_seed():
    images = held_out_renders(2, 32)
    assert images.shape == (2, 3, 32, 32)
    assert torch.equal(images, held_out_renders(2, 32))
    assert HELD_OUT_SEED > 18 * 1000


def test_hits_are_counted_by_attribute(toy_pairs):
    wanted = [Attributes.from_labels(labels) for labels in toy_pairs.source_labels.tolist()]
    rates = hit_rates(toy_pairs.sources, wanted)
    assert rates["color"] == rates["ground"] == 1
    wrong = [each._replace(ground="snow" if each.ground != "snow" else "sand") for each in wanted]
    assert hit_rates(toy_pairs.sources, wrong)["ground"] == 0
    assert hit_rates(toy_pairs.sources, wrong)["all"] == 0


def test_the_shipped_model_is_measured(tmp_path):
    report = measure(
        "data/tiny-ldm", tmp_path, num_prompts=12, num_renders=2, num_edges=1, num_steps=2, guidance_scales=[1.0, 5.0]
    )  # fmt: skip
    assert report["reconstruction of clean renders, dB"] > 28
    assert 0 <= report["samples at guidance 5"]["all"] <= 1
    assert json.loads((tmp_path / "quality.json").read_text()) == report
    assert (tmp_path / "samples-1.png").is_file()
    assert np.isfinite(report["reconstruction of altered renders, dB"])
