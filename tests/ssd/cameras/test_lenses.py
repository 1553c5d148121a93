"""Lens models against COLMAP's own numbers, undistortion against OpenCV's."""

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from threestudio_ssd.cameras import Cameras, Lens
from threestudio_ssd.cameras.lenses import MODELS, distort, undistort
from threestudio_ssd.errors import SceneFormatError

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "cameras" / "colmap_lenses.json").read_text())


def picture(width: int, height: int) -> torch.Tensor:
    """Smooth coloured waves: what a photograph shows at pixel centres."""
    u, v = torch.meshgrid(torch.arange(width) + 0.5, torch.arange(height) + 0.5, indexing="xy")
    return torch.stack([0.5 + 0.4 * torch.sin(u / 9), 0.5 + 0.4 * torch.cos(v / 7), (u + v) / (width + height)], -1)


def one_camera(lens: Lens | None, path: Path | None = None, size: tuple[int, int] = (96, 64)) -> Cameras:
    K = lens.K if lens else torch.tensor([[80.0, 0, 48], [0, 80, 32], [0, 0, 1]])
    width, height = torch.tensor([size[0]]), torch.tensor([size[1]])
    return Cameras(torch.eye(4)[None], K[None], width, height, ["a"], [path], [lens])


def test_every_model_is_covered():
    assert set(GOLDEN["models"]) == set(MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_models_agree_with_colmap(model):
    entry = GOLDEN["models"][model]
    directions = torch.tensor(GOLDEN["directions"], dtype=torch.float64)
    points = torch.tensor(entry["points"], dtype=torch.float64)
    assert torch.allclose(distort(model, tuple(entry["params"]), directions), points, atol=1e-12)


@pytest.mark.parametrize("params", [(-0.1, 0.03, 0.002, -0.003), (0.15, 0.0, 0.0, 0.0)])
def test_undistortion_agrees_with_opencv(params):
    lens = Lens("OPENCV", params, (80.0, 82.0), (50.0, 30.0), (96, 64))
    photo = picture(96, 64)
    ours = undistort(photo, lens, lens.K, (96, 64)).numpy()
    centred = lens.K.numpy() - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]  # OpenCV's pixel centres are whole numbers
    theirs = cv2.undistort(photo.numpy(), centred, np.array(params), None, centred)
    assert np.abs(ours - theirs)[8:-8, 8:-8].max() < 0.01  # OpenCV rounds positions to 1/32 of a pixel
    assert np.abs(ours - photo.numpy())[8:-8, 8:-8].max() > 0.05


def test_nothing_to_undo_keeps_the_pixels():
    lens = Lens("OPENCV", (0.0, 0.0, 0.0, 0.0), (80.0, 82.0), (50.0, 30.0), (96, 64))
    assert torch.equal(undistort(picture(96, 64), lens, lens.K.float(), (96, 64)), picture(96, 64))
    assert not Lens("FISHEYE", (), (80.0, 82.0), (50.0, 30.0), (96, 64)).is_pinhole


def test_cropping_then_reading_is_reading_then_cropping(tmp_path):
    Image.fromarray((picture(96, 64).numpy() * 255).astype(np.uint8)).save(tmp_path / "a.png")
    lens = Lens("SIMPLE_RADIAL", (-0.1,), (80.0, 80.0), (50.0, 30.0), (96, 64))
    cameras = one_camera(lens, tmp_path / "a.png")
    whole = cameras.load_image(0)
    window = cameras.cropped(11, 7, 40, 30).load_image(0)
    assert torch.allclose(window, whole[7:37, 11:51], atol=1e-5)
    beyond = cameras.cropped(-40, 0, 60, 64).load_image(0)
    assert not beyond[:, :20].any()
    assert torch.allclose(beyond[:, 40:], whole[:, :20], atol=1e-5)


@pytest.mark.parametrize("has_lens", [True, False])
def test_resizing_keeps_what_is_seen(tmp_path, has_lens):
    Image.fromarray((picture(192, 128).numpy() * 255).astype(np.uint8)).save(tmp_path / "a.png")
    lens = Lens("PINHOLE", (), (160.0, 160.0), (96.0, 64.0), (192, 128)) if has_lens else None
    cameras = one_camera(lens, tmp_path / "a.png", (192, 128)).resized(48, 32)
    small = cameras.load_image(0)
    pooled = torch.nn.functional.avg_pool2d(picture(192, 128).permute(2, 0, 1)[None], 4)[0].permute(1, 2, 0)
    assert small.shape == (32, 48, 3)
    assert (small - pooled)[2:-2, 2:-2].abs().max() < 0.03


def test_a_picture_of_another_size_than_calibrated_is_scaled(tmp_path):
    Image.fromarray((picture(96, 64).numpy() * 255).astype(np.uint8)).save(tmp_path / "a.png")
    lens = Lens("OPENCV", (-0.1, 0.0, 0.0, 0.0), (160.0, 160.0), (96.0, 64.0), (192, 128))  # images_2
    half = one_camera(lens, tmp_path / "a.png", (192, 128)).resized(96, 64)
    own = Lens("OPENCV", (-0.1, 0.0, 0.0, 0.0), (80.0, 80.0), (48.0, 32.0), (96, 64))
    assert torch.allclose(half.load_image(0), one_camera(own, tmp_path / "a.png").load_image(0), atol=1e-5)


def test_transparent_pictures_are_put_on_white(tmp_path):
    pixels = np.zeros((64, 96, 4), np.uint8)
    pixels[:, :48] = (255, 0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = one_camera(None, tmp_path / "a.png").load_image(0)
    assert image[0, 0].tolist() == [1, 0, 0]
    assert image[0, 60].tolist() == [1, 1, 1]
    assert one_camera(None, tmp_path / "a.png").load_image(0, (0.0, 0.5, 0.25))[0, 60].tolist() == [0, 0.5, 0.25]


@pytest.mark.parametrize("factor", [1, 2])
def test_where_the_photograph_ends_is_known(tmp_path, factor):
    """White photographs: what a picture shows is how much of it lies inside."""
    Image.new("RGB", (96 * factor, 64 * factor), (255, 255, 255)).save(tmp_path / "a.png")
    lens = Lens("OPENCV", (0.3, 0.0, 0.0, 0.0), (80.0, 80.0), (48.0, 32.0), (96, 64))
    for cameras in (one_camera(lens, tmp_path / "a.png"), one_camera(lens, tmp_path / "a.png").cropped(-9, 3, 70, 50)):
        inside = cameras.inside_photograph(0)
        assert inside.min() == 0
        assert 0.5 < inside.mean() < 0.95
        torch.testing.assert_close(inside, cameras.load_image(0)[..., 0])
    barrel = Lens("OPENCV", (-0.2, 0.0, 0.0, 0.0), (80.0, 80.0), (48.0, 32.0), (96, 64))
    assert one_camera(barrel, tmp_path / "a.png").inside_photograph(0).min() > 0.999
    assert one_camera(None, tmp_path / "a.png").inside_photograph(0).min() == 1


def test_messages(tmp_path):
    with pytest.raises(SceneFormatError) as error:
        one_camera(None).load_image(0)
    assert str(error.value) == (
        "view a has no picture; expected a photograph for every view; "
        "put the pictures where the camera file says, or use renders instead of photographs"
    )
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(SceneFormatError) as error:
        one_camera(None, tmp_path / "a.png").load_image(0)
    assert str(error.value).startswith(f"{tmp_path / 'a.png'} cannot be read as a picture (")
    assert str(error.value).endswith("; expected a PNG, JPEG or WebP file; replace it")


def test_wide_fisheye_shows_its_middle():
    lens = Lens("OPENCV_FISHEYE", (0.0, 0.0, 0.0, 0.0), (60.0, 60.0), (48.0, 32.0), (96, 64))
    direction = torch.tensor([[math.tan(0.5), 0.0]], dtype=torch.float64)
    assert torch.allclose(distort(lens.model, lens.params, direction), torch.tensor([[0.5, 0.0]], dtype=torch.float64))
    assert torch.isfinite(undistort(picture(96, 64), lens, lens.K, (96, 64))).all()
