"""Pairs of toy scenes as training data."""

import numpy as np

from threestudio_ssd.training.loop import Worker
from threestudio_ssd.training.pairs import FIRST_SEED, load_pairs, write_pair_shards


def test_pairs_differ_in_one_attribute_and_are_reproducible(tmp_path):
    for folder in ("a", "b"):
        write_pair_shards(Worker(0, 1), tmp_path / folder, 1, 4)
    first, second = (np.load(tmp_path / folder / "shard_000.npz") for folder in ("a", "b"))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert first["sources"].shape == first["targets"].shape == (4, 64, 64, 3)
    assert ((first["source_attributes"] != first["target_attributes"]).sum(1) == 1).all()
    change = np.abs(first["sources"].astype(int) - first["targets"]).mean((1, 2, 3))
    assert (change > 0.2).all()

    training, held_out = (load_pairs(tmp_path / "a", is_held_out=each) for each in (False, True))
    assert held_out.seeds.tolist() == [FIRST_SEED]
    assert training.seeds.tolist() == [FIRST_SEED + 1, FIRST_SEED + 2, FIRST_SEED + 3]
    np.testing.assert_array_equal(training.targets[1].permute(1, 2, 0).numpy(), first["targets"][2])
    np.testing.assert_array_equal(training.source_labels.numpy(), first["source_attributes"][1:])
