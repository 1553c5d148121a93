"""Masks drawn by the user, and what can be wrong with them."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tests.edit_world import toy_cameras
from threestudio_ssd.cameras import Cameras, Lens, concatenate
from threestudio_ssd.errors import SceneFormatError
from threestudio_ssd.masks import load_masks, picture


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
    views, masks, inside = load_masks(tmp_path / "view_002.png", cameras)
    assert inside.min() > 1 - 1e-5
    assert views.names == ["view_002"]
    assert masks.shape == (1, 30, 40)
    assert masks[0, :, :20].min() == 1
    assert masks[0, :, 20:].max() == 0


def test_a_fully_opaque_picture_with_alpha_is_read_by_its_brightness(tmp_path, cameras):
    Image.new("RGBA", (8, 8), (255, 255, 255, 255)).save(tmp_path / "view_000.png")
    assert load_masks(tmp_path, cameras)[1].min() == 1
    Image.new("RGBA", (8, 8), (0, 0, 0, 255)).save(tmp_path / "view_000.png")
    assert load_masks(tmp_path, cameras)[1].max() == 0


def test_a_mask_of_more_pixels_than_a_photograph_is_made_smaller(tmp_path, cameras, monkeypatch):
    monkeypatch.setattr(picture, "MAX_PHOTOGRAPH", 40 * 30 // 3)
    draw(tmp_path / "view_002.png")
    views, masks, _ = load_masks(tmp_path / "view_002.png", cameras)
    assert masks.shape == (1, 15, 20)
    assert (int(views.widths[0]), int(views.heights[0])) == (20, 15)
    assert masks[0, :, :10].min() == 1
    assert masks[0, :, 10:].max() == 0


def test_views_are_matched_by_name_and_brought_to_the_masks_size(tmp_path, cameras):
    for name in ("view_003", "view_001"):
        draw(tmp_path / f"{name}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    views, masks, _ = load_masks(tmp_path, cameras)
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


def disc(xy, center, radius):
    """1 within a disc of directions (x/z, y/z)."""
    return ((xy - np.array(center)) ** 2).sum(-1) < radius**2


def test_the_photograph_s_lens_is_undone_in_its_mask_too(tmp_path):
    """A disc near a corner, drawn over a distorted photograph as OpenCV has it, at half the calibrated size."""
    lens = Lens("OPENCV", (-0.2, 0.0, 0.0, 0.0), (160.0, 160.0), (160.0, 120.0), (320, 240))
    cameras = Cameras(torch.eye(4)[None], lens.K[None], torch.tensor([320]), torch.tensor([240]), ["a"], [None], [lens])
    K = np.diag([0.5, 0.5, 1.0]) @ lens.K.numpy()
    grid = np.stack(np.meshgrid(np.arange(160) + 0.5, np.arange(120) + 0.5), -1)
    through_lens = cv2.undistortPoints(grid.reshape(-1, 1, 2), K, np.array(lens.params)).reshape(120, 160, 2)
    straight = (grid - K[:2, 2]) / K[[0, 1], [0, 1]]
    center, radius = (0.66, 0.48), 0.16
    Image.fromarray(disc(through_lens, center, radius)).save(tmp_path / "a.png")
    views, masks, inside = load_masks(tmp_path, cameras)
    assert (int(views.widths[0]), int(views.heights[0])) == (160, 120)
    drawn, true = masks[0].numpy() > 0.5, disc(straight, center, radius)
    assert (drawn & true).sum() / (drawn | true).sum() > 0.95
    drawn = disc(through_lens, center, radius)
    assert (drawn & true).sum() / (drawn | true).sum() < 0.5
    assert inside.min() > 1 - 1e-5


def test_beyond_the_photograph_a_mask_says_nothing(tmp_path):
    """A pincushion's pinhole picture reaches beyond the photograph."""
    lens = Lens("OPENCV", (0.1, 0.0, 0.0, 0.0), (80.0, 80.0), (80.0, 60.0), (160, 120))
    cameras = Cameras(torch.eye(4)[None], lens.K[None], torch.tensor([160]), torch.tensor([120]), ["a"], [None], [lens])
    Image.new("L", (160, 120), 255).save(tmp_path / "a.png")
    _, masks, inside = load_masks(tmp_path, cameras)
    assert torch.equal(masks, inside)
    assert inside[0, 0, 0] == 0
    assert inside[0, 20:100, 30:130].min() > 1 - 1e-6
    assert 0.05 < (inside < 0.5).float().mean() < 0.2


def test_masks_of_portraits_and_landscapes_share_a_canvas(tmp_path, cameras):
    wide, tall = cameras[0].cropped(0, 12, 64, 40), cameras[1].cropped(12, 0, 40, 64)
    capture = concatenate([wide, tall])
    draw(tmp_path / "view_000.png", 64, 40)
    draw(tmp_path / "view_001.png", 40, 64)
    views, masks, inside = load_masks(tmp_path, capture)
    assert views.widths.tolist() == views.heights.tolist() == [64, 64]
    torch.testing.assert_close(views.Ks, capture.Ks)
    for row, (width, height) in enumerate([(64, 40), (40, 64)]):
        assert inside[row, :height, :width].min() > 1 - 1e-4
        assert inside[row].sum() == pytest.approx(width * height, rel=1e-4)
        assert masks[row, :height, : width // 2].min() > 1 - 1e-4
        assert masks[row].sum() == pytest.approx(width * height / 2, rel=1e-4)


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
    assert message(broken).what.startswith(f"mask {broken} cannot be read as a picture (")
    cut = tmp_path / "view_001.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(cut)
    cut.write_bytes(cut.read_bytes()[:800])
    assert message(cut).what.startswith(f"mask {cut} cannot be read as a picture (")


def test_masks_of_photographs_without_a_camera_are_left_out_and_hidden_files_are_none(tmp_path, cameras, caplog):
    (tmp_path / "inner").mkdir()
    draw(tmp_path / "inner" / "view_001.jpg.png")
    draw(tmp_path / "view_099.png")
    (tmp_path / "._view_001.png").write_bytes(b"not a picture")
    with caplog.at_level("WARNING"):
        views, masks, _ = load_masks(tmp_path, cameras)
    assert views.names == ["view_001"]
    assert masks[0, :, :20].min() == 1
    assert "1 of 2 masks" in caplog.text
    assert "view_099.png" in caplog.text


def test_a_mask_that_may_belong_to_two_views_is_refused_with_both(tmp_path, cameras):
    cameras.names[:2] = ["left/shot", "right/shot"]
    draw(tmp_path / "shot.png")
    with pytest.raises(SceneFormatError, match="may belong to left/shot and right/shot"):
        load_masks(tmp_path, cameras)


def test_two_masks_of_one_view_are_refused(tmp_path, cameras):
    draw(tmp_path / "view_001.png")
    draw(tmp_path / "view_001.jpg")
    with pytest.raises(SceneFormatError, match=r"view_001.jpg and .*view_001.png both belong to view_001"):
        load_masks(tmp_path, cameras)


def test_a_mask_of_16_bits_is_not_white(tmp_path, cameras):
    Image.fromarray(np.full((30, 40), 1000, np.uint16)).save(tmp_path / "view_001.png")
    assert load_masks(tmp_path, cameras)[1].max() < 0.02
