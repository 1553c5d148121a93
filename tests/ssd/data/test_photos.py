"""Photographs and where their fit starts: the same points from COLMAP's files and from nerfstudio's cloud."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from threestudio_ssd.data import PhotosData
from threestudio_ssd.errors import SceneFormatError
from threestudio_ssd.neighbors import Neighbors

BANANA = Path("data/banana")


def data(cameras):
    return PhotosData({"cameras": str(cameras)})


def nerfstudio_folder(folder):
    """The capture as nerfstudio has it, without COLMAP's files."""
    shutil.copytree(BANANA / "images", folder / "images")
    for name in ("transforms.json", "sparse_pc.ply"):
        shutil.copy(BANANA / name, folder / name)
    return folder


def test_nerfstudio_and_colmap_give_the_same_start(tmp_path):
    expected, colors = data(BANANA).points()
    folder = nerfstudio_folder(tmp_path / "capture")
    for given in (folder, folder / "transforms.json"):
        points, rgbs = data(given).points()
        assert len(points) == 6283
        gaps, rows = Neighbors(expected.double().numpy()).nearest(points.double().numpy(), 1)
        assert gaps.max() < 1e-3
        assert (rgbs == colors[rows[:, 0]]).all(dim=1).float().mean() > 0.99


def test_points_follow_the_cameras_into_a_training_world(tmp_path):
    """What a camera sees in the middle of its picture is what it saw before."""
    folder = nerfstudio_folder(tmp_path / "capture")
    before, points_before = data(folder), data(folder).points()[0]
    turn = [[0, -1, 0, 0.3], [1, 0, 0, -0.2], [0, 0, 1, 0.1]]
    (folder / "dataparser_transforms.json").write_text(json.dumps({"transform": turn, "scale": 0.25}))
    after, points_after = data(folder), data(folder).points()[0]
    for one, other in zip(before.capture, after.capture, strict=True):
        seen, seen_after = (
            points @ c.viewmats[0, :3, :3].T + c.viewmats[0, :3, 3]
            for points, c in ((points_before, one), (points_after, other))
        )
        torch.testing.assert_close(0.25 * seen, seen_after, rtol=1e-3, atol=1e-3)


def test_without_a_cloud_there_are_no_points(tmp_path):
    folder = nerfstudio_folder(tmp_path / "capture")
    (folder / "sparse_pc.ply").unlink()
    assert data(folder).points() is None


def test_a_cloud_without_colours_is_named(tmp_path):
    folder = nerfstudio_folder(tmp_path / "capture")
    cloud = folder / "sparse_pc.ply"
    cloud.write_bytes(cloud.read_bytes().replace(b"uchar red", b"uchar rex", 1))
    with pytest.raises(SceneFormatError, match="no column red"):
        data(folder).points()
