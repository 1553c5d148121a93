"""The training of the CLIP: which captions count as right, and the loss."""

import numpy as np
import pytest
import torch

from threestudio_ssd.toyworld import Attributes
from threestudio_ssd.toyworld.captions import parse_caption
from threestudio_ssd.training import clip


def test_captions_are_true_of_the_images_that_fit(generator):
    labels = torch.tensor([Attributes("ball", "red").labels(), Attributes("cube", "red").labels()])
    captions = ["a photo of a red ball", "a red thing", "a blue ball", "a torus"]
    is_true = clip.is_true_of(labels, clip.named_labels(captions))
    assert is_true.tolist() == [[True, True, False, False], [False, True, False, False]]


def test_twins_differ_in_one_attribute():
    labels = torch.tensor([Attributes("car", "green", "dotted", "wood", "night").labels()] * 40)
    texts = clip.captions_and_twins(labels, np.random.default_rng(3))
    scene = Attributes.from_labels(labels[0].tolist())
    assert all(getattr(scene, name) == word for text in texts[:40] for name, word in parse_caption(text).items())
    wrong = [sum(getattr(scene, name) != word for name, word in parse_caption(text).items()) for text in texts[40:]]
    assert set(wrong) == {0, 1}
    assert sum(wrong) > 25


def test_contrastive_loss_is_clips_when_each_caption_has_one_image(generator):
    features = torch.nn.functional.normalize(torch.randn(5, 8, generator=generator), dim=-1)
    texts = torch.nn.functional.normalize(torch.randn(5, 8, generator=generator), dim=-1)
    logits = (10 * features @ texts.T).double().numpy()
    by_image = np.log(np.exp(logits).sum(1)) - np.diag(logits)
    by_text = np.log(np.exp(logits).sum(0)) - np.diag(logits)
    value = clip.contrastive(features, texts, torch.tensor(10.0), torch.eye(5, dtype=torch.bool))
    assert value.item() == pytest.approx((by_image.mean() + by_text.mean()) / 2, abs=1e-4)


def test_a_caption_without_an_image_only_pushes_away(generator):
    features = torch.eye(2)
    texts = torch.eye(3)[:, :2]
    is_true = torch.tensor([[True, False, False], [False, True, False]])
    value = clip.contrastive(features, texts, torch.tensor(1.0), is_true)
    by_image, by_text = np.log(np.e + 1 + 1) - 1, np.log(np.e + 1) - 1
    assert value.item() == pytest.approx((by_image + by_text) / 2, abs=1e-5)
