"""LLFF, Metashape and RealityCapture: known cameras written as they write them, and read back.

The writers here are independent of the readers: they go through points in front of the cameras.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from threestudio_ssd.cameras import Cameras, load_cameras
from threestudio_ssd.errors import SceneFormatError

BANANA = Path(__file__).parents[3] / "data" / "banana"


@pytest.fixture(scope="module")
def banana():
    return load_cameras(BANANA / "sparse" / "0")


def axes_of(cameras: Cameras) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Right, down, forward and centre of each camera in the world: where its own unit points lie."""
    points = np.eye(4)[:, :3] @ np.eye(3)  # x, y, z and the origin
    to_world = np.linalg.inv(cameras.viewmats.double().numpy())
    placed = np.einsum("cij,pj->pci", to_world, np.hstack([points, np.ones((4, 1))]))[..., :3]
    return placed[0] - placed[3], placed[1] - placed[3], placed[2] - placed[3], placed[3]


def assert_same(read: Cameras, banana: Cameras) -> None:
    assert read.names == banana.names
    assert torch.allclose(read.viewmats, banana.viewmats, atol=1e-5)
    assert torch.allclose(read.Ks, banana.Ks, atol=1e-3)
    assert torch.equal(read.widths, banana.widths)
    assert [path.name for path in read.image_paths] == [path.name for path in banana.image_paths]


@pytest.mark.parametrize("folder", ["images", "images_4"])
def test_llff(banana, tmp_path, folder):
    right, down, forward, centre = axes_of(banana)
    focal = float(banana.Ks[0, 0, 0])
    sizes = np.tile([425.0, 640.0, focal], (len(banana), 1))
    columns = np.stack([down, right, -forward, centre, sizes], axis=2).reshape(len(banana), 15)
    np.save(
        tmp_path / "poses_bounds.npy", np.hstack([columns, np.ones((len(banana), 1)), np.full((len(banana), 1), 9)])
    )
    shutil.copytree(BANANA / "images", tmp_path / folder)
    (tmp_path / folder / "._DSC_0423.jpg").touch()
    read = load_cameras(tmp_path)
    expected = banana.Ks.clone()
    expected[:, 0, 0] = expected[:, 1, 1] = focal
    expected[:, 0, 2], expected[:, 1, 2] = 320, 212.5
    banana = Cameras(banana.viewmats, expected, banana.widths, banana.heights, banana.names, banana.image_paths)
    assert_same(read, banana)
    shutil.copytree(BANANA / "sparse", tmp_path / "sparse")  # mip-NeRF 360 has both: COLMAP's own has the lens
    assert torch.equal(load_cameras(tmp_path).viewmats, load_cameras(BANANA / "sparse").viewmats)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (np.zeros((3, 15)), "float64 of shape"),
        (np.full((12, 17), np.nan), "not finite"),
        (np.array([{}]), "object of shape"),
        (np.zeros((12, 17)), "no rotation"),
        (np.zeros((0, 17)), "float64 of shape"),
    ],
)
def test_llff_s_numbers_are_checked(tmp_path, table, words):
    np.save(tmp_path / "poses_bounds.npy", table, allow_pickle=True)
    with pytest.raises(SceneFormatError, match=words):
        load_cameras(tmp_path)


def metashape(banana: Cameras, **changes: str) -> str:
    right, down, forward, centre = axes_of(banana)
    numbers = {"f": 0.0, "cx": 0.0, "cy": 0.0, "b1": 0.0, "k1": 0.03, "k2": -0.01, "p1": 0.002, "p2": -0.001}
    K = banana.Ks[0].double()
    numbers |= {"f": float(K[1, 1]), "b1": float(K[0, 0] - K[1, 1]), "cx": float(K[0, 2] - 320)}
    numbers |= {"cy": float(K[1, 2] - 212.5)}
    texts = {name: repr(value) for name, value in numbers.items()} | changes
    kind = texts.pop("type", "frame")
    calibration = "".join(f"<{name}>{value}</{name}>" for name, value in texts.items())
    cameras = []
    for row, name in enumerate(banana.names):
        matrix = np.eye(4)
        matrix[:3] = np.stack([right[row], down[row], forward[row], centre[row]], axis=1)
        words = " ".join(map(repr, matrix.ravel().tolist()))
        cameras.append(f'<camera id="{row}" sensor_id="0" label="{name}"><transform>{words}</transform></camera>')
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<document version="2.0.0"><chunk label="Chunk 1"><sensors><sensor id="0" label="a" type="{kind}">
<resolution width="640" height="425"/>
<calibration type="frame" class="initial"><resolution width="640" height="425"/><f>1</f></calibration>
<calibration type="frame" class="adjusted"><resolution width="640" height="425"/>{calibration}</calibration>
</sensor></sensors><cameras><camera id="90" sensor_id="0" label="unaligned"/><group id="1" label="inner">
{"".join(cameras)}</group></cameras></chunk></document>"""


def test_metashape(banana, tmp_path):
    (tmp_path / "cameras.xml").write_text(metashape(banana), encoding="utf-8-sig")
    shutil.copytree(BANANA / "images", tmp_path / "images")
    for path in (tmp_path, tmp_path / "cameras.xml"):
        read = load_cameras(path)
        expected = banana.Ks[:1].expand(len(banana), 3, 3)
        same = Cameras(banana.viewmats, expected, banana.widths, banana.heights, banana.names, banana.image_paths)
        assert_same(read, same)
    lens = read.lenses[0]
    assert lens.params[:5] == (0.03, -0.01, -0.001, 0.002, 0.0)  # p1 and p2 change places


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k4": "0.1"}, "k4 = 0.1"), ({"b2": "5"}, "skew b2 = 5.0"), ({"type": "spherical"}, "type 'spherical'"),
        ({"f": "0"}, "fx = "), ({"f": "wide"}, "could not convert"), ({"cx": "nan"}, "cx = nan"),
        ({"type": "fisheye"}, "p1 and p2 of a fisheye"),
    ],
)  # fmt: skip
def test_metashape_s_numbers_are_checked(banana, tmp_path, changes, words):
    (tmp_path / "cameras.xml").write_text(metashape(banana, **changes))
    with pytest.raises(SceneFormatError, match=words):
        load_cameras(tmp_path / "cameras.xml")


@pytest.mark.parametrize("text", ["<document>", "<a><!ENTITY b 'c'></a>", "<document><chunk/></document>", ""])
def test_other_xml_is_refused(tmp_path, text):
    (tmp_path / "cameras.xml").write_text(text)
    with pytest.raises(SceneFormatError, match="cannot be read|no camera"):
        load_cameras(tmp_path / "cameras.xml")


def realitycapture(banana: Cameras, **changes: str) -> str:
    right, down, forward, centre = axes_of(banana)
    lines = ["#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2"]
    for row, path in enumerate(banana.image_paths):
        # heading, pitch and roll of the turn whose columns are right, up and back
        up, back = -down[row], -forward[row]
        pitch = np.arcsin(np.clip(up[2], -1, 1))
        roll = np.arctan2(-right[row][2], back[2])
        heading = np.arctan2(up[0], up[1])
        K = banana.Ks[row].double()
        values = {
            "x": centre[row][0], "y": centre[row][1], "alt": centre[row][2], "heading": np.rad2deg(heading),
            "pitch": np.rad2deg(pitch), "roll": np.rad2deg(roll), "f": float(K[0, 0]) * 36 / 640,
            "px": float(K[0, 2] - 320) * 36 / 640, "py": float(K[1, 2] - 212.5) * 36 / 640,
        }  # fmt: skip
        texts = {name: repr(float(value)) for name, value in values.items()}
        texts |= dict(zip(("k1", "k2", "k3", "k4", "t1", "t2"), ("0.02", "0", "0", "0", "0.001", "0"), strict=True))
        lines.append(",".join([path.name, *{**texts, **changes}.values()]))
    return "\n".join(lines) + "\n"


def test_realitycapture(banana, tmp_path):
    (tmp_path / "cameras.csv").write_text(realitycapture(banana), encoding="utf-8-sig")
    with pytest.raises(SceneFormatError, match="gives no sizes"):
        load_cameras(tmp_path)
    shutil.copytree(BANANA / "images", tmp_path / "images")
    expected = banana.Ks.clone()
    expected[:, 1, 1] = expected[:, 0, 0]
    same = Cameras(banana.viewmats, expected, banana.widths, banana.heights, banana.names, banana.image_paths)
    for path in (tmp_path, tmp_path / "cameras.csv"):
        read = load_cameras(path)
        assert_same(read, same)
    assert read.lenses[0].params[:4] == (0.02, 0.0, 0.001, 0.0)


def test_realitycapture_s_axes(banana, tmp_path):
    """With angles of 0 a camera looks down and north is up; heading 90 puts east up; pitch 90 looks north."""
    for angles, forward, up in (
        ((0, 0, 0), (0, 0, -1), (0, 1, 0)), ((90, 0, 0), (0, 0, -1), (1, 0, 0)), ((0, 90, 0), (0, 1, 0), (0, 0, 1)),
        ((90, 90, 0), (1, 0, 0), (0, 0, 1)),
    ):  # fmt: skip
        changes = dict(zip(("heading", "pitch", "roll"), map(str, angles), strict=True))
        (tmp_path / "cameras.csv").write_text(realitycapture(banana, **changes))
        shutil.copytree(BANANA / "images", tmp_path / "images", dirs_exist_ok=True)
        read = load_cameras(tmp_path)
        assert torch.allclose(read.forwards[0], torch.tensor(forward, dtype=torch.float32), atol=1e-6)
        assert torch.allclose(read.ups[0], torch.tensor(up, dtype=torch.float32), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"k4": "1"}, "k4 = 1.0"), ({"f": "0"}, "fx = 0.0"), ({"heading": "north"}, "heading of .* is 'north'"),
     ({"x": "inf"}, "holds NaN or infinity"), ({"pitch": "nan"}, "holds NaN or infinity")],
)  # fmt: skip
def test_realitycapture_s_numbers_are_checked(banana, tmp_path, changes, words):
    (tmp_path / "cameras.csv").write_text(realitycapture(banana, **changes))
    shutil.copytree(BANANA / "images", tmp_path / "images")
    with pytest.raises(SceneFormatError, match=words):
        load_cameras(tmp_path / "cameras.csv")
