"""Masks drawn by the user, and what can be wrong with them."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.edit_world import toy_cameras
from threestudio_ssd.errors import SceneFormatError
from threestudio_ssd.masks import load_masks


@pytest.fixture
def cameras():
    return toy_cameras(4, 64)


def draw(path, width=40, height=30, mode="L"):
    """A mask whose left half is white."""
    values = np.zeros((height, width), np.uint8)
    values[:, : width // 2] = 255
    picture = Image.fromarray(values).convert(mode)
    if mode == "RGBA":
        picture = Image.new("RGBA", (width, height), (10, 20, 30, 255))
        picture.putalpha(Image.fromarray(values))
    picture.save(path)


@pytest.mark.parametrize("mode", ["L", "RGB", "1", "RGBA"])
def test_white_or_opaque_is_one(tmp_path, cameras, mode):
    draw(tmp_path / "view_002.png", mode=mode)
    views, masks = load_masks(tmp_path / "view_002.png", cameras)
    assert views.names == ["view_002"]
    assert masks.shape == (1, 30, 40)
    assert masks[0, :, :20].min() == 1
    assert masks[0, :, 20:].max() == 0


def test_a_fully_opaque_picture_with_alpha_is_read_by_its_brightness(tmp_path, cameras):
    Image.new("RGBA", (8, 8), (255, 255, 255, 255)).save(tmp_path / "view_000.png")
    assert load_masks(tmp_path, cameras)[1].min() == 1
    Image.new("RGBA", (8, 8), (0, 0, 0, 255)).save(tmp_path / "view_000.png")
    assert load_masks(tmp_path, cameras)[1].max() == 0


def test_views_are_matched_by_name_and_brought_to_the_masks_size(tmp_path, cameras):
    for name in ("view_003", "view_001"):
        draw(tmp_path / f"{name}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    views, masks = load_masks(tmp_path, cameras)
    assert views.names == ["view_001", "view_003"]
    assert masks.shape == (2, 30, 40)
    assert views.widths.tolist() == [40, 40]
    assert views.heights.tolist() == [30, 30]
    torch.testing.assert_close(views.viewmats, cameras.viewmats[[1, 3]])
    torch.testing.assert_close(views.Ks[:, 0, 0], cameras.Ks[[1, 3], 0, 0] * 40 / 64)


def test_a_view_named_with_its_suffix_matches(tmp_path, cameras):
    cameras.names = [f"{name}.JPG" for name in cameras.names]
    draw(tmp_path / "view_001.png")
    assert load_masks(tmp_path, cameras)[0].names == ["view_001.JPG"]


def test_what_is_wrong_is_said(tmp_path, cameras):
    def message(path):
        with pytest.raises(SceneFormatError) as error:
            load_masks(path, cameras)
        return error.value

    missing = tmp_path / "nothing"
    assert message(missing).what == f"mask.picture {missing} does not exist"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert message(empty).what == f"mask.picture {empty} holds no picture"
    stranger = tmp_path / "face.png"
    draw(stranger)
    assert message(stranger).what == f"mask {stranger} belongs to no view"
    assert message(stranger).expected == "the name of one of 4 views, such as view_000"
    broken = tmp_path / "view_000.png"
    broken.write_bytes(b"\x89PNG and then nothing")
    assert message(broken).what == f"mask {broken} cannot be read as a picture"
    cut = tmp_path / "view_001.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(cut)
    cut.write_bytes(cut.read_bytes()[:800])
    assert message(cut).what == f"mask {cut} cannot be read as a picture"
    several = tmp_path / "several"
    several.mkdir()
    draw(several / "view_000.png")
    draw(several / "view_001.png", width=50)
    assert message(several).what == f"masks in {several} have different sizes: [(30, 40), (30, 50)]"
