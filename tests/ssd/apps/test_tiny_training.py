"""The shared training loop: data by scene, rates, and a resumed run that equals an uninterrupted one."""

import numpy as np
import pytest
import torch
from torch import nn

from threestudio_ssd.apps.tiny_training import HELD_OUT_EVERY, Recipe, load_toy_data, sha256, train, weights_table
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.toyworld.captions import parse_caption


def test_data_is_read_and_split_by_scene(toy_shards):
    data = load_toy_data(toy_shards)
    assert data.images.shape == (48, 3, 64, 64)
    assert data.object_masks.dtype == torch.bool
    training, held_out = data.split()
    assert len(training) + len(held_out) == 48
    assert set(held_out.seeds.tolist()) == {0, HELD_OUT_EVERY}
    assert not set(training.seeds.tolist()) & set(held_out.seeds.tolist())


def test_pixels_keep_their_place(toy_shards):
    first = np.load(sorted(toy_shards.glob("*.npz"))[0])
    data = load_toy_data(toy_shards)
    np.testing.assert_array_equal(data.images[5].permute(1, 2, 0).numpy(), first["images"][5])


def test_captions_are_true_of_their_rows(toy_shards):
    from threestudio_ssd.toyworld import Attributes

    data = load_toy_data(toy_shards)
    rows = torch.arange(10)
    for caption, labels in zip(data.captions(rows, 3), data.labels[rows].tolist(), strict=True):
        scene = Attributes.from_labels(labels)
        assert all(getattr(scene, name) == word for name, word in parse_caption(caption).items())


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no \.npz shards in"):
        load_toy_data(tmp_path)


def test_rates_warm_up_and_fall_to_zero():
    recipe = Recipe(steps=100, batch_size=1, learning_rate=1.0, warmup_steps=10)
    rates = [recipe.rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0, abs=0.03)
    assert rates[50] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0, abs=1e-9)


def test_cooldown_leaves_the_cosine_and_is_linear():
    whole = Recipe(steps=100, batch_size=1, learning_rate=1.0, warmup_steps=1)
    cut = Recipe(steps=60, batch_size=1, learning_rate=1.0, warmup_steps=1, horizon=100, cooldown_steps=20)
    assert [cut.rate(step) for step in range(41)] == [whole.rate(step) for step in range(41)]
    assert cut.rate(50) == pytest.approx(whole.rate(40) / 2)
    assert cut.rate(60) == 0


class Stopped(Exception):
    """Stands in for an interruption."""


def run(folder, steps_until_stop=None):
    """Fit a line with the loop; returns the weights."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    count = 0

    def loss(network, generator):
        nonlocal count
        count += 1
        if count == steps_until_stop:
            raise Stopped
        points = torch.randn(16, 2, generator=generator)
        return (network(points)[:, 0] - points.sum(1)).square().mean()

    recipe = Recipe(steps=30, batch_size=16, learning_rate=0.05, warmup_steps=3)
    lines = []
    train(network, loss, recipe, folder / "last.pt", info=lines.append, save_every=10)
    assert not network.training
    return network.state_dict(), lines


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    expected, lines = run(tmp_path / "whole")
    assert len(lines) == 3
    with pytest.raises(Stopped):
        run(tmp_path / "cut", steps_until_stop=17)
    resumed, lines = run(tmp_path / "cut")
    assert len(lines) == 2
    assert all(torch.equal(resumed[name], value) for name, value in expected.items())


def test_training_lowers_the_loss(tmp_path):
    _, lines = run(tmp_path)
    first, last = (float(line.split("loss ")[1].split()[0]) for line in (lines[0], lines[-1]))
    assert last < 0.5 * first


def test_weights_table_lists_checksums(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"abc")
    assert sha256(tmp_path / "a.safetensors") in weights_table(tmp_path)
    assert sha256(tmp_path / "a.safetensors") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
