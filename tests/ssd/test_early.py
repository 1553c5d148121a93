"""Files that a config names and that are not there: found before anything heavy is imported, in the readers' words."""

from pathlib import Path

import pytest
import torch

from tests.edit_world import toy_cameras
from threestudio.plugins import REPOSITORY
from threestudio_ssd import check_inputs, early
from threestudio_ssd.cameras import load_cameras
from threestudio_ssd.data.modules import GSViews
from threestudio_ssd.errors import ConfigError, InputError
from threestudio_ssd.gaussians.io import load_gaussians
from threestudio_ssd.images import read_mask, read_rgb
from threestudio_ssd.masks.picture import load_masks
from threestudio_ssd.masks.saved import load_selection

SCENE, IMAGE = {"system_type": "ssd-gs-system"}, {"system_type": "ssd-image-system"}
VIEWS, PHOTOS, PICTURE = {"data_type": "gs-views"}, {"data_type": "gs-photos"}, {"data_type": "ssd-picture"}
FILES = {
    "scene": (SCENE, VIEWS, {"scene": "no.ply"}, {}, lambda: load_gaussians("no.ply")),
    "mask picture": (
        SCENE, VIEWS, {"mask": {"picture": "no.png"}}, {}, lambda: load_masks("no.png", toy_cameras(2, 8)),
    ),
    "saved selection": (
        SCENE, VIEWS, {"mask": {"saved": "no.npy"}}, {}, lambda: load_selection("no.npy", 3),
    ),
    "part of a mask": (
        SCENE, VIEWS, {"mask": {"any_of": [{"text": "a"}, {"none_of": [{"saved": "no.npy"}]}]}}, {},
        lambda: load_selection("no.npy", 3),
    ),
    "cameras of views": (SCENE, VIEWS, {}, {"cameras": "no.json"}, lambda: GSViews({"cameras": "no.json"})),
    "cameras of photographs": (SCENE, PHOTOS, {}, {"cameras": "no.json"}, lambda: load_cameras("no.json")),
    "dataparser": (
        SCENE, VIEWS, {}, {"cameras": ".", "dataparser": "no.json"}, lambda: load_cameras(".", dataparser="no.json"),
    ),
    "picture": (IMAGE, PICTURE, {}, {"picture": "no.png"}, lambda: read_rgb("no.png", "picture")),
    "mask of a picture": (
        IMAGE, PICTURE, {"mask_picture": "no.png"}, {},
        lambda: read_mask("no.png", "system.mask_picture", torch.zeros(1, 3, 4, 4)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_the_early_check_says_what_the_reader_says(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    system_type, data_type, system, data, read = FILES[name]
    with pytest.raises(InputError) as late:
        read()
    with pytest.raises(InputError) as soon:
        check_inputs({**system_type, **data_type, "system": system, "data": data})
    assert (type(soon.value), str(soon.value)) == (type(late.value), str(late.value))


@pytest.mark.parametrize("value", [None, "", 3, [], {}, True])
def test_what_is_no_path_is_left_to_the_check_of_the_keys(value):
    keys = {"scene": value, "mask": {"picture": value, "saved": value, "any_of": [value]}, "mask_picture": value}
    early.check_system(keys)
    early.check_system({"mask": value})
    early.check_data("gs-views", {"cameras": value, "dataparser": value, "picture": value})


def test_systems_of_other_plugins_are_left_alone():
    other = {"scene": "no.ply", "cameras": "no.json"}
    check_inputs({"system_type": "toy-system", "data_type": "toy-targets", "system": other, "data": other})


def test_files_that_are_there_pass(tmp_path):
    for name in ("a.ply", "a.json", "a.png", "a.npy", "b.json"):
        (tmp_path / name).write_bytes(b"")
    folder = str(tmp_path)
    mask = {"picture": folder, "saved": f"{folder}/a.npy"}
    early.check_system({"scene": f"{folder}/a.ply", "mask": mask, "mask_picture": f"{folder}/a.png"})
    early.check_data("gs-views", {"cameras": str(tmp_path), "dataparser": str(tmp_path / "b.json")})
    assert early.mask_images(tmp_path) == [tmp_path / "a.png"]


def test_shipped_data_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("THREESTUDIO_SSD_DATA", raising=False)
    assert early.named("data/toy-scene/scene.ply") == REPOSITORY / "data" / "toy-scene" / "scene.ply"
    assert early.named("data/nothing.ply") == Path("data/nothing.ply")
    assert early.named("scene.ply") == Path("scene.ply")


def test_a_variable_names_the_shipped_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "mine.ply").touch()
    monkeypatch.setenv("THREESTUDIO_SSD_DATA", "shipped")
    assert early.named("data/mine.ply") == Path("shipped/mine.ply")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.ply").touch()
    assert early.named("data/mine.ply") == Path("data/mine.ply")
    monkeypatch.setenv("THREESTUDIO_SSD_DATA", "gone")
    with pytest.raises(ConfigError) as caught:
        early.named("data/other.ply")
    assert str(caught.value) == (
        "data/other.ply is not here, and there is no shipped data in gone; expected the folder data of the "
        "threestudio-ssd repository; set THREESTUDIO_SSD_DATA to that folder"
    )
