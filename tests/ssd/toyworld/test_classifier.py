"""The attribute classifier: shipped weights read known scenes right, also when damaged; any size; messages."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from threestudio_ssd.errors import ConfigError
from threestudio_ssd.toyworld import ATTRIBUTES
from threestudio_ssd.toyworld.classifier import DEFAULT_FOLDER, WEIGHTS_NAME, AttributeClassifier, load_classifier
from threestudio_ssd.training.augment import blur


def labels_of(readings):
    return torch.stack([readings[name].labels for name in ATTRIBUTES], 1)


def test_reads_what_each_scene_shows(toy_pairs):
    labels = labels_of(load_classifier()(toy_pairs.all_images))
    right = labels == toy_pairs.all_labels
    assert right.float().mean() >= 0.97
    assert right.float().mean(0).min() >= 0.88


def test_reads_larger_and_damaged_pictures(toy_pairs, generator):
    read = load_classifier()
    large = torch.nn.functional.interpolate(toy_pairs.all_images, scale_factor=4, mode="bilinear")
    noisy = toy_pairs.all_images + 0.03 * torch.randn(toy_pairs.all_images.shape, generator=generator)
    for pictures in (large, blur(toy_pairs.all_images, 0.6), noisy.clamp(0, 1)):
        right = labels_of(read(pictures)) == toy_pairs.all_labels
        assert right.float().mean() >= 0.94


def test_readings_name_their_labels(toy_pairs):
    readings = load_classifier()(toy_pairs.sources)
    assert list(readings) == list(ATTRIBUTES)
    for name, words in ATTRIBUTES.items():
        assert readings[name].logits.shape == (len(toy_pairs.sources), len(words))
        assert [words.index(word) for word in readings[name].words] == readings[name].labels.tolist()
        assert torch.equal(readings[name].logits.argmax(1), readings[name].labels)


def test_weights_are_small_and_half_precision():
    path = DEFAULT_FOLDER / WEIGHTS_NAME
    assert path.stat().st_size < 2e6
    assert all(value.dtype == torch.float16 for value in load_file(path).values() if value.is_floating_point())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="attribute classifier at .* cannot be loaded"):
        load_classifier(tmp_path)


def test_another_networks_file_is_named(tmp_path):
    state = AttributeClassifier().state_dict()
    state.pop("heads.color.weight")
    save_file(state, tmp_path / WEIGHTS_NAME)
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_classifier(tmp_path)
