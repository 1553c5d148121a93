"""The training of the segmenter: parts of images, and phrases that mean them."""

import numpy as np
import torch

from threestudio_ssd.toyworld import Attributes
from threestudio_ssd.toyworld.captions import parse_caption
from threestudio_ssd.training import segmenter
from threestudio_ssd.training.scenes import load_toy_data


def test_parts_cover_the_image_once(toy_pairs, toy_shards):
    data = load_toy_data(toy_shards, is_held_out=False)
    masks = segmenter.part_masks(data, torch.arange(len(data)))
    total = masks["object"].int() + masks["ground"].int() + masks["sky"].int()
    assert (total == 1).all()
    assert torch.equal(masks["background"], masks["ground"] | masks["sky"])
    assert not masks["nothing"].any()


def test_the_sky_is_above_the_ground(toy_pairs):
    data = toy_pairs.data
    masks = segmenter.part_masks(data, torch.arange(len(data)))
    rows = torch.arange(64.0).view(1, 64, 1)
    for sky, ground in zip(masks["sky"], masks["ground"], strict=True):
        assert sky[0].any()
        assert ground[-1].float().mean() > 0.95
        assert (sky * rows).sum() / sky.sum() < (ground * rows).sum() / ground.sum() - 15


def test_phrases_mean_what_they_say():
    rng = np.random.default_rng(0)
    scene = Attributes("house", "pink", "striped", "sand", "night")
    phrases = [segmenter.random_phrase(scene, rng) for _ in range(500)]
    assert {phrase.part for phrase in phrases} == {"object", "ground", "sky", "background", "nothing"}
    for phrase in phrases:
        said = parse_caption(phrase.text)
        is_true = all(getattr(scene, name) == word for name, word in said.items())
        assert is_true == (phrase.part != "nothing"), phrase
        if phrase.part == "object":
            assert "ground" not in said
    assert 0.15 < np.mean([phrase.part == "nothing" for phrase in phrases]) < 0.31
