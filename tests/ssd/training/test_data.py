"""Shards of training data, and what is held out."""

import numpy as np
import pytest

from threestudio_ssd.errors import ConfigError
from threestudio_ssd.training.data import HELD_OUT_EVERY, load_shards, write_shards
from threestudio_ssd.training.loop import Worker


def rows_of(seed):
    return {"values": np.full((2, 1), seed), "seeds": np.full(2, seed)}


def test_shards_hold_out_seeds_by_one_rule(tmp_path):
    write_shards(Worker(), tmp_path, 3, rows_of, range(15))
    (trained,) = load_shards(tmp_path, ("values",), is_held_out=False)
    (held_out,) = load_shards(tmp_path, ("values",), is_held_out=True)
    assert set(held_out.flatten().tolist()) == {0, HELD_OUT_EVERY, 2 * HELD_OUT_EVERY}
    assert set(trained.flatten().tolist()) == set(range(45)) - {0, 20, 40}
    assert len(trained) + len(held_out) == 90


def test_shards_that_are_there_are_kept_and_processes_share_the_others(tmp_path):
    write_shards(Worker(0, 2), tmp_path, 3, rows_of, range(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shard_000.npz", "shard_002.npz"]
    before = (tmp_path / "shard_000.npz").stat().st_mtime_ns
    lines = []
    write_shards(Worker(info=lines.append), tmp_path, 3, rows_of, range(2))
    assert lines == ["shard_001.npz of 3 is rendered"]
    assert (tmp_path / "shard_000.npz").stat().st_mtime_ns == before
    assert np.load(tmp_path / "shard_001.npz")["seeds"].tolist() == [2, 2, 3, 3]


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no \.npz shards in"):
        load_shards(tmp_path, ("values",), is_held_out=True)


def test_too_few_scenes_are_named(tmp_path):
    write_shards(Worker(), tmp_path, 1, rows_of, range(1, 5))
    with pytest.raises(ConfigError, match="hold no scene that is held out"):
        load_shards(tmp_path, ("values",), is_held_out=True)


def test_shards_of_an_older_data_step_are_named(tmp_path):
    write_shards(Worker(), tmp_path, 1, rows_of, range(1, 5))
    with pytest.raises(
        ConfigError, match=r"shard_000\.npz has no angles_deg; expected a shard with values, angles_deg"
    ):
        load_shards(tmp_path, ("values", "angles_deg"), is_held_out=False)
