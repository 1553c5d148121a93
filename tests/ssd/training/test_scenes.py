"""Renders of toy scenes as training data."""

import numpy as np
import pytest
import torch

from threestudio_ssd.toyworld import object_yaw_deg
from threestudio_ssd.training.data import HELD_OUT_EVERY
from threestudio_ssd.training.loop import Worker
from threestudio_ssd.training.scenes import draw_attributes, evenly_spread, load_toy_data, write_scene_shards


def test_data_is_read_and_split_by_scene(toy_shards):
    training, held_out = (load_toy_data(toy_shards, is_held_out=each) for each in (False, True))
    assert training.images.shape == (44, 3, 64, 64)
    assert training.object_masks.dtype == torch.bool
    assert len(training) + len(held_out) == 48
    assert set(held_out.seeds.tolist()) == {0, HELD_OUT_EVERY}
    assert not set(training.seeds.tolist()) & set(held_out.seeds.tolist())


def test_judges_of_objects_see_scenes_with_objects_alone(toy_shards):
    everything, objects = (load_toy_data(toy_shards, is_held_out=False, only_objects=each) for each in (False, True))
    assert set(everything.seeds.tolist()) - set(objects.seeds.tolist()) == {5, 18}
    assert objects.has_object.all()
    assert (
        len(objects.angles_deg)
        == len(objects.framings)
        == len(objects.images)
        == len(objects.labels)
        == len(everything) - 4
    )


def test_what_is_learned_last_is_drawn_more_often():
    rng = np.random.default_rng(0)
    drawn = [draw_attributes(rng) for _ in range(3000)]
    shares = {word: np.mean([word in each for each in drawn]) for word in ("cube", "ball", "snow", "sand", "red")}
    expected = {"cube": 1.5 / 11.5, "ball": 1 / 11.5, "snow": 1.4 / 4.4, "sand": 1 / 4.4, "red": 1 / 8}
    assert shares == pytest.approx(expected, abs=0.025)


def test_pixels_keep_their_place(toy_shards):
    first = np.load(sorted(toy_shards.glob("*.npz"))[0])
    data = load_toy_data(toy_shards, is_held_out=False)
    np.testing.assert_array_equal(data.images[5].permute(1, 2, 0).numpy(), first["images"][7])
    np.testing.assert_array_equal(data.labels[5].numpy(), first["attributes"][7])
    assert data.seeds[5] == first["seeds"][7] == 3
    chosen = data.select(torch.tensor([5]))
    assert torch.equal(chosen.images[0], data.images[5])
    assert torch.equal(chosen.unit_images(torch.tensor([0])), data.images[5:6].float() / 255)


def test_data_shards_are_reproducible(tmp_path):
    for folder in ("a", "b"):
        write_scene_shards(Worker(0, 1), tmp_path / folder, 1, 2)
    first, second = (np.load(tmp_path / folder / "shard_000.npz") for folder in ("a", "b"))
    assert first["images"].shape == (6, 64, 64, 3)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert 0.02 < first["object_masks"].mean() < 0.6
    assert first["angles_deg"].shape == (6, 2)
    assert not np.array_equal(first["angles_deg"][0], first["angles_deg"][1])
    assert ((first["angles_deg"][:, 0] + object_yaw_deg(0))[:3] >= 0).all()
    assert first["has_object"].shape == first["framings"].shape == (6,)


def test_rows_are_spread_from_first_to_last():
    assert evenly_spread(3, 11).tolist() == [0, 5, 10]
    assert evenly_spread(9, 4).tolist() == [0, 1, 2, 3]
    assert evenly_spread(1024, 51_300)[-1] == 51_299
