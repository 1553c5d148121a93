"""Files appear whole or not at all; pictures and videos hold what was given."""

import json
import os

import cv2
import numpy as np
import pytest
import torch

from threestudio.utils.images import picture_grid, rgb_picture, to_numpy
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


def test_bytes_stay_bytes_and_other_shapes_are_refused():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert (rgb_picture(pixels) == pixels).all()
    assert (rgb_picture(pixels / 255) == pixels).all()
    with pytest.raises(ValueError, match=r"got the shape \(2, 4\)"):
        rgb_picture(pixels[..., 0])


def test_grids(saver):
    red = {"type": "rgb", "img": np.full((4, 6, 3), (1.0, 0, 0))}
    black = {"type": "rgb", "img": np.zeros((2, 2, 3))}
    white = {"type": "rgb", "img": np.ones((4, 2, 3))}
    assert picture_grid([red, black]).shape == (4, 12, 3)
    tall_among_wide = picture_grid([red, white])
    assert tall_among_wide.shape == (4, 12, 3)
    assert (tall_among_wide[0, 6:, 0] == [0, 0, 255, 255, 0, 0]).all()
    rows = picture_grid([[red, black], [red]])
    assert rows.shape == (8, 12, 3)
    assert rows[7, 11].tolist() == [0, 0, 0]
    assert read_rgb(saver.save_image_grid("g.png", [red, black]))[0, 0].tolist() == [255, 0, 0]
    with pytest.raises(ValueError, match="type is 'depth'"):
        picture_grid([{"type": "depth", "img": None}])


def test_videos_hold_every_frame_in_order(saver):
    for number in (10, 9, 1):
        saver.save_rgb_image(f"frames/{number}.png", np.full((17, 32, 3), number / 12))
    path = saver.save_img_sequence("video", "frames", r"(\d+)\.png")
    assert path.endswith("video.mp4")
    capture = cv2.VideoCapture(path)
    levels = []
    while (frame := capture.read())[0]:
        levels.append(float(frame[1].mean()))
    assert levels == pytest.approx([255 / 12, 9 * 255 / 12, 10 * 255 / 12], abs=12)


def test_videos_from_memory(saver):
    path = saver.save_video("v.mp4", torch.rand(3, 8, 8, 3))
    assert cv2.VideoCapture(path).get(cv2.CAP_PROP_FRAME_COUNT) == 3
    with pytest.raises(ValueError, match="no frames"):
        write_video(path, [])
    with pytest.raises(ValueError, match="no suffix of a video"):
        write_video("v.avi", [np.zeros((8, 8, 3), np.uint8)])
    with pytest.raises(ValueError, match="no file in"):
        saver.get_save_path("empty/x")
        saver.save_img_sequence("w", "empty", r"(\d+)\.png")


def test_data_json_and_text(saver, tmp_path):
    values = torch.arange(3.0)
    assert np.load(saver.save_data("a", values)).tolist() == [0, 1, 2]
    assert np.load(saver.save_data("b.npy", values.numpy())).tolist() == [0, 1, 2]
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
    with open(saver.save_text("e.txt", "Grüße\n"), encoding="utf-8") as file:
        assert file.read() == "Grüße\n"


def test_only_arrays_and_tensors_become_arrays():
    assert to_numpy(torch.ones(1, requires_grad=True)).tolist() == [1.0]
    with pytest.raises(TypeError, match="got str"):
        to_numpy("a")
