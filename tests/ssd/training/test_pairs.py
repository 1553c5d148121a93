"""Pairs of toy scenes as training data."""

import numpy as np
import pytest
import torch

from threestudio_ssd.gaussians.transform import rotation_matrices
from threestudio_ssd.toyworld import ATTRIBUTES, PART_OBJECT, build_scene, object_yaw_deg, sample_view
from threestudio_ssd.toyworld.views import OBJECT_CENTER
from threestudio_ssd.toyworld.vocabulary import Attributes
from threestudio_ssd.toyworld.world import sun_direction
from threestudio_ssd.training.loop import Worker
from threestudio_ssd.training.pairs import (
    CHOICE_STREAM,
    FIRST_SEED,
    VIEWS_A_PAIR,
    draw_change,
    load_pairs,
    sun_of_pair,
    write_pair_shards,
)
from threestudio_ssd.training.scenes import labels_of_views

SCENES = 24
CAR = Attributes("car", "red", "plain", "grass", "day")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    write_pair_shards(Worker(0, 1), folder, 1, SCENES)
    return folder


def test_pairs_differ_in_one_attribute_at_most_and_are_reproducible(folder, tmp_path):
    write_pair_shards(Worker(0, 1), tmp_path, 1, SCENES)
    first, second = (np.load(each / "shard_000.npz") for each in (folder, tmp_path))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert first["sources"].shape == first["targets"].shape == (SCENES * VIEWS_A_PAIR, 64, 64, 3)
    differ = first["source_attributes"] != first["attributes"]
    assert set(differ.sum(1)) <= {0, 1}
    change = np.abs(first["sources"].astype(int) - first["targets"]).mean((1, 2, 3))
    assert ((change > 0.2) == differ.any(1)).all()


def test_shares_say_where_the_new_object_is(folder):
    pairs = load_pairs(folder, is_held_out=False)
    is_new = (pairs.source_labels != pairs.labels)[:, list(ATTRIBUTES).index("color")]
    assert pairs.shares.shape == pairs.targets[:, 0].shape
    has_changed = (pairs.sources.int() - pairs.targets).abs().amax(1) > 40
    for row in is_new.nonzero()[:, 0].tolist():  # another colour: the object changes, and next to nothing else
        both = (has_changed[row] & (pairs.shares[row] > 127)).sum() / has_changed[row].sum()
        assert both > 0.9
    assert is_new.any()


def test_only_new_objects_are_turned(folder):
    pairs = load_pairs(folder, is_held_out=False)
    is_new = (pairs.source_labels != pairs.labels)[:, list(ATTRIBUTES).index("object")]
    assert pairs.is_turned[is_new].any()
    assert not pairs.is_turned[is_new].all()
    assert not pairs.is_turned[~is_new].any()


def test_a_turned_object_is_seen_from_further_back_around_it():
    rng = np.random.default_rng(0)
    views = [sample_view(rng, is_wide=False) for _ in range(3)]
    as_it_is, turned = (labels_of_views(CAR, 7, views, turn_deg=each)["angles_deg"] for each in (0.0, 30.0))
    np.testing.assert_allclose(as_it_is - turned, [[30, 0]] * 3, atol=1e-3)


def test_the_cameras_of_a_pair_are_in_the_frame_of_its_new_object(folder):
    """There the camera's azimuth is the one from the object's front, which captions tell."""
    pairs = load_pairs(folder, is_held_out=False)
    cameras = pairs.cameras(torch.arange(len(pairs)))
    x, y, z = (cameras.centers - torch.tensor(OBJECT_CENTER)).unbind(dim=1)
    azimuths, elevations = torch.atan2(y, x).rad2deg(), torch.atan2(z, torch.hypot(x, y)).rad2deg()
    away = (azimuths - pairs.angles_deg[:, 0] + 180) % 360 - 180
    assert away.abs().max() < 5  # of a camera that looks a little beside the object
    assert (elevations - pairs.angles_deg[:, 1]).abs().max() < 5
    assert pairs.is_turned.any()


def test_held_out_pairs_are_those_of_every_twentieth_seed(folder):
    training, held_out = (load_pairs(folder, is_held_out=each) for each in (False, True))
    assert set(held_out.seeds.tolist()) == {FIRST_SEED, FIRST_SEED + 20}
    assert set(training.seeds.tolist()) == {FIRST_SEED + place for place in range(SCENES) if place % 20}
    with np.load(folder / "shard_000.npz") as shard:
        np.testing.assert_array_equal(training.targets[0].permute(1, 2, 0).numpy(), shard["targets"][VIEWS_A_PAIR])


def test_the_sun_of_a_pair_is_in_the_frame_of_its_new_object(folder):
    """What faces it there faces the scene's sun in the world."""
    pairs = load_pairs(folder, is_held_out=False)
    for row in (0, int(pairs.is_turned.nonzero()[0])):
        seed = int(pairs.seeds[row])
        target, turn_deg = draw_change(np.random.default_rng([seed, CHOICE_STREAM]))[1::2]
        scene = build_scene(target, seed, turn_deg=turn_deg)
        is_object = scene.parts == PART_OBJECT
        front = np.radians(object_yaw_deg(seed) + turn_deg)
        cos, sin = np.cos(front), np.sin(front)
        normals = rotation_matrices(torch.from_numpy(scene.quats[is_object]))[:, :, 2].numpy()
        own = normals @ np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
        facing = own @ sun_of_pair(seed)
        np.testing.assert_allclose(facing, normals @ sun_direction(seed), atol=1e-5)
        assert np.linalg.norm(sun_of_pair(seed)) == pytest.approx(1)
