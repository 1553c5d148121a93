"""The training of the judges: losses, texts, and a run of two steps that writes a loadable model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from threestudio_ssd.files import sha256
from threestudio_ssd.toyworld import ATTRIBUTES, Attributes
from threestudio_ssd.toyworld.captions import parse_caption
from threestudio_ssd.toyworld.classifier import WEIGHTS_NAME, load_classifier
from threestudio_ssd.training import classifier, clip, segmenter
from threestudio_ssd.training.loop import Worker
from threestudio_ssd.training.scenes import load_toy_data


def short(module):
    return replace(module.RECIPE, steps=2, batch_size=8, cooldown_steps=0)


def check_readme(folder, weights):
    text = (folder / "README.md").read_text()
    assert sha256(folder / weights) in text
    assert "seed 0" in text
    assert "Apache-2.0" in text


def test_the_classifier_is_trained_measured_and_written(toy_shards, tmp_path):
    lines = []
    figures = classifier.train(
        Worker(info=lines.append), toy_shards, tmp_path / "out", tmp_path / "work", short(classifier)
    )
    assert any(line.startswith("held-out accuracy") for line in lines)
    assert set(figures["clean"]) == {*ATTRIBUTES, "all five"}
    assert len(figures) == 4
    check_readme(tmp_path / "out", WEIGHTS_NAME)
    assert load_classifier(tmp_path / "out")(torch.rand(1, 3, 64, 64))["color"].words[0] in ATTRIBUTES["color"]


def test_clip_and_segmenter_are_trained_measured_and_written(toy_shards, tmp_path, monkeypatch):
    from threestudio_ssd.masks.text import ClipSeg, load_segmenter
    from threestudio_ssd.metrics import clip_similarity, load_clip

    figures = clip.train(Worker(), toy_shards, tmp_path / "clip", tmp_path / "work1", short(clip))
    assert {"zero-shot color", "zero-shot all five"} <= set(figures)
    check_readme(tmp_path / "clip", "model.safetensors")
    model = load_clip(str(tmp_path / "clip"))
    assert model.antialias
    assert clip_similarity(torch.rand(1, 3, 64, 64), "a red ball", model).abs() <= 1

    figures = segmenter.train(
        Worker(), toy_shards, tmp_path / "seg", tmp_path / "work2", short(segmenter), clip_folder=tmp_path / "clip"
    )
    assert len(figures) == 9
    check_readme(tmp_path / "seg", "model.safetensors")
    model = load_segmenter(str(tmp_path / "seg"))
    assert isinstance(model, ClipSeg)
    assert model.size == (64, 64)


def test_captions_are_true_of_the_pictures_that_fit(generator):
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


def test_contrastive_loss_is_clips_when_each_caption_has_one_picture(generator):
    features = torch.nn.functional.normalize(torch.randn(5, 8, generator=generator), dim=-1)
    texts = torch.nn.functional.normalize(torch.randn(5, 8, generator=generator), dim=-1)
    logits = (10 * features @ texts.T).double().numpy()
    by_image = np.log(np.exp(logits).sum(1)) - np.diag(logits)
    by_text = np.log(np.exp(logits).sum(0)) - np.diag(logits)
    value = clip.contrastive(features, texts, torch.tensor(10.0), torch.eye(5, dtype=torch.bool))
    assert value.item() == pytest.approx((by_image.mean() + by_text.mean()) / 2, abs=1e-4)


def test_a_caption_without_a_picture_only_pushes_away(generator):
    features = torch.eye(2)
    texts = torch.eye(3)[:, :2]
    is_true = torch.tensor([[True, False, False], [False, True, False]])
    value = clip.contrastive(features, texts, torch.tensor(1.0), is_true)
    by_image, by_text = np.log(np.e + 1 + 1) - 1, np.log(np.e + 1) - 1
    assert value.item() == pytest.approx((by_image + by_text) / 2, abs=1e-5)


def test_parts_cover_the_picture_once(toy_pairs, toy_shards):
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
