"""Files appear whole or not at all; pictures and videos hold what was given."""

import json
import os

import cv2
import numpy as np
import pytest
import torch

from threestudio.utils.images import grayscale_picture, picture_grid, rgb_picture, to_numpy, to_uint8, uv_picture
from threestudio.utils.saving import SaverMixin, atomic_path, write_video


@pytest.fixture
def saver(tmp_path):
    saver = SaverMixin()
    saver.set_save_dir(tmp_path / "save")
    return saver


def read_rgb(path):
    return cv2.cvtColor(cv2.imread(path, cv2.IMREAD_UNCHANGED), cv2.COLOR_BGR2RGB)


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        assert temporary.suffix == ".txt"
        assert path.read_text() == "old"
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["a.txt"]


def test_the_folder_must_be_chosen():
    with pytest.raises(ValueError, match="call set_save_dir first"):
        SaverMixin().save_json("a.json", {})


def test_rgb_rounds_to_nearest_and_clips(saver):
    image = torch.tensor([[[0.0, 0.5, 1.0], [-1.0, 2.0, float("nan")]]])
    path = saver.save_rgb_image("a/b.png", image)
    assert path == os.path.join(saver.get_save_dir(), "a/b.png")
    assert read_rgb(path).tolist() == [[[0, 128, 255], [0, 255, 0]]]
    assert rgb_picture(image.permute(2, 0, 1), "CHW").tolist() == read_rgb(path).tolist()
    assert rgb_picture(image * 2 - 1, data_range=(-1, 1))[0, 0].tolist() == [0, 128, 255]


def test_further_channels_go_beside():
    image = np.zeros((2, 4, 5), np.uint8)
    image[..., 3], image[..., 4] = 7, 9
    picture = rgb_picture(image)
    assert picture.shape == (2, 8, 3)
    assert picture[0, 5].tolist() == [7, 9, 0]


def test_to_uint8_leaves_bytes_alone():
    pixels = np.arange(256, dtype=np.uint8)
    assert (to_uint8(pixels, 0, 1) == pixels).all()
    assert (to_uint8(pixels / 255, 0, 1) == pixels).all()


def test_pixels_are_saved_as_they_are(saver):
    pixels = torch.arange(48, dtype=torch.uint8).reshape(4, 4, 3)
    assert (read_rgb(saver.save_image("a.png", pixels)) == pixels.numpy()).all()
    deep = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4000
    assert (cv2.imread(saver.save_image("b.png", deep), cv2.IMREAD_UNCHANGED) == deep).all()
    with pytest.raises(TypeError, match="8 or 16 bit"):
        saver.save_image("c.png", np.zeros((4, 4)))


def test_gray_and_uv():
    ramp = np.linspace(2.0, 4.0, 5)[None]
    assert grayscale_picture(ramp, cmap=None)[0, :, 0].tolist() == [0, 64, 128, 191, 255]
    assert grayscale_picture(np.ones((2, 2)), cmap=None).max() == 0
    assert grayscale_picture(ramp, cmap="jet").shape == (1, 5, 3)
    assert grayscale_picture(ramp[..., None], (0, 4), None)[0, 0].tolist() == [128, 128, 128]
    corners = np.array([[[0.0, 0.0], [1.5 / 64, 0.0]]])
    assert uv_picture(corners).tolist() == [[[255, 0, 255], [255, 255, 255]]]
    assert uv_picture(corners + 1, cmap="color")[0, 0].tolist() == [255, 255, 0]
    for wrong in (lambda: grayscale_picture(ramp, cmap="hot"), lambda: uv_picture(corners, cmap="x")):
        with pytest.raises(ValueError, match="cmap is"):
            wrong()


def test_grids(saver):
    red = {"type": "rgb", "img": np.full((4, 6, 3), (1.0, 0, 0))}
    gray = {"type": "grayscale", "img": np.zeros((2, 2)), "kwargs": {"cmap": None, "data_range": (0, 1)}}
    assert picture_grid([red, gray]).shape == (4, 12, 3)
    assert picture_grid([red, gray], "min").shape == (2, 4, 3)
    assert picture_grid([red, gray], 3).shape == (3, 6, 3)
    assert picture_grid([red, gray], (5, 3)).shape == (5, 6, 3)
    white = {"type": "rgb", "img": np.ones((4, 2, 3))}
    tall_among_wide = picture_grid([red, white])
    assert tall_among_wide.shape == (4, 12, 3)
    assert (tall_among_wide[0, 6:, 0] == [0, 0, 255, 255, 0, 0]).all()
    rows = picture_grid([[red, gray], [red]])
    assert rows.shape == (8, 12, 3)
    assert rows[7, 11].tolist() == [0, 0, 0]
    assert read_rgb(saver.save_image_grid("g.png", [red, gray]))[0, 0].tolist() == [255, 0, 0]
    with_text = read_rgb(saver.save_image_grid("t.png", [[red], [red]], align=64, texts=["a", "b"]))
    assert (with_text[:32] != (255, 0, 0)).any()
    assert (with_text[64:96] != (255, 0, 0)).any()
    with pytest.raises(ValueError, match="align is 'big'"):
        picture_grid([red], "big")
    with pytest.raises(ValueError, match="type is 'depth'"):
        picture_grid([{"type": "depth", "img": None}])


@pytest.mark.parametrize("suffix", ["mp4", "webm", "gif"])
def test_videos_hold_every_frame_in_order(saver, suffix):
    for number in (10, 9, 1):
        saver.save_rgb_image(f"frames/{number}.png", np.full((17, 32, 3), number / 12))
    path = saver.save_img_sequence("video", "frames", r"(\d+)\.png", save_format=suffix, fps=5)
    assert path.endswith(f"video.{suffix}")
    capture = cv2.VideoCapture(path)
    levels = []
    while (frame := capture.read())[0]:
        levels.append(float(frame[1].mean()))
    assert levels == pytest.approx([255 / 12, 9 * 255 / 12, 10 * 255 / 12], abs=12)


def test_videos_from_memory(saver):
    path = saver.save_video("v.mp4", torch.rand(3, 8, 8, 3), fps=3)
    assert cv2.VideoCapture(path).get(cv2.CAP_PROP_FRAME_COUNT) == 3
    with pytest.raises(ValueError, match="no frames"):
        write_video(path, [])
    with pytest.raises(ValueError, match="no suffix of a video"):
        write_video("v.avi", [np.zeros((8, 8, 3), np.uint8)])
    with pytest.raises(ValueError, match="no file in"):
        saver.get_save_path("empty/x")
        saver.save_img_sequence("w", "empty", r"(\d+)\.png")


def test_data_json_text_and_files(saver, tmp_path):
    values = torch.arange(3.0)
    assert np.load(saver.save_data("a", values)).tolist() == [0, 1, 2]
    assert np.load(saver.save_data("b.npz", {"x": values}))["x"].tolist() == [0, 1, 2]
    payload = {"psnr": np.float32(1.5), "list": values, "path": tmp_path}
    with open(saver.save_json("c.json", payload)) as file:
        assert json.load(file) == {"psnr": 1.5, "list": [0, 1, 2], "path": str(tmp_path)}
    with open(
        saver.save_json("n.json", {1: float("nan"), "inf": np.float64("inf"), "deep": [torch.tensor(np.inf)]})
    ) as file:
        assert json.load(file) == {"1": None, "inf": None, "deep": [None]}
    with pytest.raises(TypeError, match="set cannot be written"):
        saver.save_json("d.json", {"psnr": {1}})
    assert not os.path.exists(saver.get_save_path("d.json"))
    copied = saver.save_file("e.json", saver.get_save_path("c.json"))
    with open(copied) as file:
        assert json.load(file)["psnr"] == 1.5
    state = saver.save_state_dict("f.pt", {"x": values})
    assert torch.load(state, weights_only=True)["x"].tolist() == [0, 1, 2]


def test_to_numpy_goes_into_lists_and_dicts():
    assert to_numpy({"a": [torch.ones(1, requires_grad=True), None]}) == {"a": [np.ones(1), None]}
    with pytest.raises(TypeError, match="got str"):
        to_numpy("a")
