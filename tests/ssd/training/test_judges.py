"""The training of the three judges: a run of two steps that writes a loadable model, its figures and its page."""

from dataclasses import replace

import torch

from threestudio_ssd.files import sha256
from threestudio_ssd.toyworld import ATTRIBUTES
from threestudio_ssd.toyworld.classifier import WEIGHTS_NAME, load_classifier
from threestudio_ssd.training import classifier, clip, segmenter
from threestudio_ssd.training.loop import Worker


def short(module):
    return replace(module.RECIPE, steps=2, batch_size=8)


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
