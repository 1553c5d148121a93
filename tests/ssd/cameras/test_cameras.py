"""The set of cameras: indexing, resizing, cropping, derived directions."""

import jaxtyping
import pytest
import torch

from threestudio_ssd.cameras import Cameras, concatenate, orbit_cameras


@pytest.fixture
def cameras():
    return orbit_cameras([1, 2, 3], 2.0, [0, 10, 20, 30], [0, 90, 180, 270], 50, 64, 48)


@pytest.fixture
def unchecked():
    """Without the shape checks of the test run, as a user runs it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    "index", [slice(1, 4, 2), [1, 3], torch.tensor([1, 3]), torch.tensor([False, True, False, True])]
)
def test_indexing(cameras, index):
    picked = cameras[index]
    assert picked.names == ["orbit_001", "orbit_003"]
    assert torch.equal(picked.viewmats, cameras.viewmats[[1, 3]])
    assert len(cameras[-1]) == 1
    assert cameras[-1].names == ["orbit_003"]
    with pytest.raises(IndexError):
        cameras[4]


def test_dtypes_and_centers(cameras):
    assert cameras.viewmats.dtype == cameras.Ks.dtype == torch.float32
    assert cameras.widths.dtype == cameras.heights.dtype == torch.int64
    inverse = torch.linalg.inv(cameras.viewmats.double())
    assert torch.allclose(cameras.centers.double(), inverse[:, :3, 3], atol=1e-6)
    assert torch.allclose(cameras.forwards.double(), inverse[:, :3, 2], atol=1e-6)
    assert torch.allclose(cameras.ups.double(), -inverse[:, :3, 1], atol=1e-6)


def pixels(cameras, points):
    local = points @ cameras.viewmats[0, :3, :3].T + cameras.viewmats[0, :3, 3]
    projected = local @ cameras.Ks[0].T
    return projected[:, :2] / projected[:, 2:]


def test_resized_and_cropped_move_pixels_as_they_should(cameras):
    points = torch.tensor([[1.0, 2, 3], [1.2, 2.1, 3.3], [0.8, 1.7, 2.9]])
    before = pixels(cameras, points)
    assert torch.allclose(pixels(cameras.resized(32, 96), points), before * torch.tensor([0.5, 2.0]), atol=1e-4)
    assert torch.allclose(pixels(cameras.scaled(0.5), points), before * 0.5, atol=1e-4)
    assert torch.allclose(pixels(cameras.cropped(5, -3, 20, 30), points), before - torch.tensor([5.0, -3]), atol=1e-4)
    square = cameras.cropped(8, 0, 48, 48)
    assert square.widths.tolist() == square.heights.tolist() == [48] * 4
    assert torch.allclose(pixels(square, points), before - torch.tensor([8.0, 0]), atol=1e-4)
    each = cameras.cropped(torch.tensor([0, 1, 2, 3]), 0, 10, torch.tensor([5, 6, 7, 8]))
    assert each.heights.tolist() == [5, 6, 7, 8]
    assert each.Ks[:, 0, 2].tolist() == [32, 31, 30, 29]
    with pytest.raises(ValueError, match="a crop needs at least 1 pixel, got 0 x 5"):
        cameras.cropped(0, 0, 0, 5)


@pytest.mark.parametrize(("width", "height"), [(32, 24), (24, 32), (96, 40), (33, 33)])
def test_filling_another_aspect_cuts_and_never_squashes(cameras, width, height):
    cameras.Ks[:, 0, 0] *= 1.1
    cameras.Ks[:, 0, 2] += 3
    points = torch.tensor([[1.0, 2, 3], [1.2, 2.1, 3.3], [0.8, 1.7, 2.9]])
    filled = cameras.filling(width, height)
    assert (filled.widths.unique().tolist(), filled.heights.unique().tolist()) == ([width], [height])
    torch.testing.assert_close(filled.Ks[:, 0, 0] / filled.Ks[:, 1, 1], cameras.Ks[:, 0, 0] / cameras.Ks[:, 1, 1])
    scale = max(width / 64, height / 48)
    middle = torch.tensor([[32.0, 24.0]])
    expected = (pixels(cameras, points) - middle) * scale + torch.tensor([[width / 2, height / 2]])
    torch.testing.assert_close(pixels(filled, points), expected, atol=1e-3, rtol=1e-5)


def test_concatenate(cameras):
    both = concatenate([cameras[:2], cameras[2:]])
    assert both.names == cameras.names
    assert torch.equal(both.Ks, cameras.Ks)


def test_wrong_shapes_are_refused(cameras, unchecked):
    with pytest.raises(ValueError, match=r"Ks has shape \(3, 3, 3\), expected \(4, 3, 3\) for 4 names"):
        Cameras(cameras.viewmats, cameras.Ks[:3], cameras.widths, cameras.heights, cameras.names)
    with pytest.raises(ValueError, match="1 pictures and 4 lenses for 4 cameras"):
        Cameras(cameras.viewmats, cameras.Ks, cameras.widths, cameras.heights, cameras.names, [None])
