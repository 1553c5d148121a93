"""Splat, cameras and pictures of one capture belong together, and pictures are found and read as captures have them."""

import math
import unicodedata
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from PIL import Image

from threestudio_ssd.cameras import Cameras, Lens, load_cameras
from threestudio_ssd.cameras.photographs import find_photograph, laid_as, short_names, views_of
from threestudio_ssd.gaussians import load_gaussians
from threestudio_ssd.rendering import render_each

PLANT = Path(__file__).parents[3] / "data" / "plant"


@pytest.mark.parametrize("view", [0, 5])
def test_the_plant_drawn_through_blender_cameras_is_its_pictures(view):
    gaussians, cameras = load_gaussians(PLANT / "plant.ply"), load_cameras(PLANT / "blender_views")[view]
    (image,) = render_each(gaussians, cameras, torch.ones(3))
    error = float((image - cameras.load_image(0)).square().mean())
    assert -10 * math.log10(error) > 45


@pytest.mark.parametrize(
    ("file", "rows"),
    [
        ("left/IMG_1.png", [0]),
        ("left/IMG_1.jpg.png", [0]),
        ("images/right/IMG_1.JPG.PNG", [1]),
        ("IMG_1.png", [0, 1]),
        ("middle/IMG_1.png", []),
        ("IMG_2.png", [2]),
        ("shot.0001.png", [3]),
        ("shot.png", []),
        ("IMG_10.png", []),
        ("Straße\u0308.png", [4]),
    ],
)
def test_pictures_belong_to_views_whose_path_ends_as_theirs(file, rows):
    names = ["left/IMG_1", "right/IMG_1", "left/IMG_2", "shot.0001", unicodedata.normalize("NFC", "Straße\u0308")]
    assert views_of([PurePosixPath(file)], names) == [rows]


def test_views_that_differ_in_the_suffix_of_their_photographs_are_told_apart_by_it():
    names = short_names(["images/a.jpg", "images/a.png"])
    assert names == ["a.jpg", "a.png"]
    assert views_of([PurePosixPath("a.jpg.png"), PurePosixPath("a.png")], names) == [[0], [1]]


@pytest.mark.parametrize(
    "name",
    ["images/frame.01.png", "images\\frame.01.png", "images/frame.01", "frame.01.HEIC", "images/frame.01.jpg",
     "C:\\Users\\me\\capture\\images\\frame.01.png", "/mnt/disk/capture/images/frame.01.png"],
)  # fmt: skip
def test_photographs_are_found_however_their_path_is_written(tmp_path, name):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "images" / "frame.01.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "images" / "frame.png")
    assert find_photograph(name, [tmp_path, tmp_path / "images"]) == tmp_path / "images" / "frame.01.png"


def test_a_name_too_long_for_a_file_is_no_photograph(tmp_path):
    assert find_photograph("像" * 84, [tmp_path]) is None


def test_a_photograph_of_16_bits_is_not_white(tmp_path):
    values = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    lens = Lens("PINHOLE", (), (8.0, 8.0), (4.0, 4.0), (8, 8))
    camera = Cameras.of_lenses(tmp_path, np.eye(4)[None], [lens], ["deep"], [tmp_path / "deep.png"])
    assert np.abs(camera.load_image(0)[..., 0].numpy() - values / 65535).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_only_if_its_camera_has_the_sides_it_is_shown_with(tmp_path, orientation):
    """Stored 12 x 8 with a bright corner; EXIF's eight turns, drawn here from their definition."""
    stored = np.zeros((8, 12), np.uint8)
    stored[:4, :6] = 255
    turns = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.T, 6: stored[::-1].T,
        7: stored[::-1, ::-1].T, 8: stored[:, ::-1].T,
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "photo.png", exif=exif)
    for size in ((12, 8), (8, 12)):
        lens = Lens("PINHOLE", (), (8.0, 8.0), (size[0] / 2, size[1] / 2), size)
        camera = Cameras.of_lenses(tmp_path, np.eye(4)[None], [lens], ["photo"], [tmp_path / "photo.png"])
        if size == (8, 12) and orientation < 5:
            continue  # a camera that never took this photograph
        expected = stored if size == (12, 8) else turns[orientation]
        assert np.array_equal((camera.load_image(0)[..., 0] * 255).numpy(), expected)
        assert camera.inside_photograph(0).min() > 0.99
        if orientation >= 5:  # a mask drawn over the other of the two
            drawn = turns[orientation] if size == (12, 8) else stored
            assert np.array_equal(laid_as(drawn, tmp_path / "photo.png", size), expected)
