"""Photographs and where their fit starts: the same points from COLMAP's files and from nerfstudio's cloud."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from threestudio.errors import ConfigError
from threestudio_ssd.cameras import load_cameras
from threestudio_ssd.data.modules import GSViews, PhotosData
from threestudio_ssd.errors import SceneFormatError
from threestudio_ssd.neighbors import Neighbors

BANANA = Path("data/banana")
TURN = [[0, -1, 0, 0.3], [1, 0, 0, -0.2], [0, 0, 1, 0.1]]
"""Transform of a nerfstudio training run."""


def data(cameras, **keys):
    return PhotosData({"cameras": str(cameras), **keys}).capture


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
    (folder / "dataparser_transforms.json").write_text(json.dumps({"transform": TURN, "scale": 0.25}))
    after, points_after = data(folder), data(folder).points()[0]
    for one, other in zip(before.capture, after.capture, strict=True):
        seen, seen_after = (
            points @ c.viewmats[0, :3, :3].T + c.viewmats[0, :3, 3]
            for points, c in ((points_before, one), (points_after, other))
        )
        torch.testing.assert_close(0.25 * seen, seen_after, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("world", ["colmap", "file", "training", "auto"])
@pytest.mark.parametrize("kind", [PhotosData, GSViews])
def test_every_world_of_a_nerfstudio_capture_can_be_asked_for(kind, world, tmp_path):
    """dataparser_transforms.json lies elsewhere; COLMAP's own cameras beside the file say what is right."""
    folder = nerfstudio_folder(tmp_path / "capture")
    (tmp_path / "run.json").write_text(json.dumps({"transform": TURN, "scale": 0.25}))
    module = kind({"cameras": str(folder), "world": world, "dataparser": str(tmp_path / "run.json")})
    colmap = load_cameras(BANANA / "sparse").centers
    matrix, shift = torch.tensor(TURN, dtype=torch.float32).split([3, 1], dim=1)
    applied = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    expected = {
        "colmap": colmap,
        "file": colmap @ applied.T,
        "training": 0.25 * (colmap @ matrix.T + shift[:, 0]),
    }
    plan = module.plan if kind is GSViews else module.capture
    torch.testing.assert_close(plan.capture.centers, expected.get(world, expected["training"]), atol=1e-4, rtol=1e-4)
    if kind is PhotosData:
        points, _ = plan.points()
        seen = plan.capture.viewmats[0] @ torch.cat([points, torch.ones(len(points), 1)], dim=1).T
        assert (seen[2] > 0).float().mean() > 0.9
        here = data(folder, world="colmap")
        before = here.capture.viewmats[0] @ torch.cat([here.points()[0], torch.ones(len(points), 1)], dim=1).T
        scale = 0.25 if world in ("training", "auto") else 1.0
        torch.testing.assert_close(seen[:3], scale * before[:3], atol=2e-3, rtol=1e-3)


def test_a_transforms_file_goes_before_colmap_where_a_world_is_asked_for():
    assert torch.equal(data(BANANA, world="file").capture.Ks, data(BANANA / "transforms.json").capture.Ks)
    gap = data(BANANA, world="file").capture.centers - data(BANANA).capture.centers
    assert gap.abs().max() > 0.1


def test_another_world_is_refused():
    with pytest.raises(ConfigError, match="world is 'mars'; expected one of: auto, colmap, file, training"):
        data(BANANA, world="mars")


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
