"""Camera files: the same capture in every layout gives the same cameras."""

import json
import math
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from threestudio_ssd.cameras import load_cameras
from threestudio_ssd.errors import SceneFormatError

DATA = Path(__file__).parents[3] / "data"
BANANA = DATA / "banana"
A = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def banana():
    return load_cameras(BANANA / "sparse" / "0")


@pytest.fixture
def transforms(tmp_path):
    """A transforms.json that a test may write anew; the pictures lie beside it."""
    (tmp_path / "images").symlink_to(BANANA / "images")

    def write(frame_keys=(), **changes):
        document = json.loads((BANANA / "transforms.json").read_text())
        changed = {key: value for key, value in {**document, **changes}.items() if value is not None}
        for frame in changed["frames"]:
            frame.update(frame_keys)
        (tmp_path / "transforms.json").write_text(json.dumps(changed))
        return tmp_path / "transforms.json"

    return write


@pytest.mark.parametrize("place", ["", "sparse", "sparse/0", "sparse_text", "transforms.json", "cameras.json"])
def test_every_layout_of_one_capture_agrees(banana, place):
    cameras = load_cameras(BANANA / place)
    assert cameras.names == banana.names
    assert cameras.names[0] == "DSC_0423"
    assert torch.allclose(cameras.viewmats, banana.viewmats, atol=1e-6)
    assert torch.allclose(cameras.Ks, banana.Ks, atol=1e-4)
    assert set(zip(cameras.widths.tolist(), cameras.heights.tolist(), strict=True)) == {(640, 425)}
    assert [path.name for path in cameras.image_paths] == [f"{name}.jpg" for name in banana.names]


def test_sparse_points_fall_on_their_features(banana):
    """Points project onto the features that COLMAP matched: axes, pixel convention and order are right."""
    data = (BANANA / "sparse/0/points3D.bin").read_bytes()
    (count,) = struct.unpack_from("<Q", data)
    offset, points = 8, {}
    for _ in range(count):
        key, *xyz = struct.unpack_from("<Q3d", data, offset)
        (length,) = struct.unpack_from("<Q", data, offset + 43)
        points[key] = xyz
        offset += 51 + 8 * length
    lines = [line for line in (BANANA / "sparse_text/images.txt").read_text().splitlines() if not line.startswith("#")]
    errors = []
    for head, body in zip(lines[::2], lines[1::2], strict=True):
        view = banana.names.index(head.split()[9].removesuffix(".jpg"))
        features = np.array(body.split(), dtype=np.float64).reshape(-1, 3)
        features = features[features[:, 2] >= 0]
        world = torch.tensor([points[int(key)] for key in features[:, 2]])
        local = world @ banana.viewmats[view, :3, :3].T + banana.viewmats[view, :3, 3]
        assert (local[:, 2] > 0).all()
        pixels = local @ banana.Ks[view].T
        pixels = pixels[:, :2] / pixels[:, 2:]
        errors.append((pixels.numpy() - features[:, :2]) ** 2)
    assert math.sqrt(np.concatenate(errors).sum(axis=1).mean()) < 0.2


def test_worlds_of_a_transforms_json(banana, transforms):
    path = transforms()
    in_file = load_cameras(path, world="file")
    assert torch.allclose(in_file.viewmats @ torch.tensor(A).float(), banana.viewmats, atol=1e-5)
    turn = np.array([[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, 1]]) @ A[:3, :3]
    transform = np.concatenate([turn, [[0.3], [-0.2], [0.5]]], axis=1)
    other = path.parent / "elsewhere.json"
    other.write_text(json.dumps({"transform": transform.tolist(), "scale": 0.25}))
    trained = load_cameras(path, dataparser=other)
    centers = 0.25 * (banana.centers.double() @ torch.tensor(turn).T + torch.tensor(transform[:, 3]))
    assert torch.allclose(trained.centers.double(), centers, atol=1e-5)
    assert torch.allclose(trained.forwards.double(), banana.forwards.double() @ torch.tensor(turn).T, atol=1e-5)
    other.rename(path.parent / "dataparser_transforms.json")
    assert torch.equal(load_cameras(path.parent).viewmats, trained.viewmats)
    assert torch.allclose(load_cameras(path, world="colmap").viewmats, banana.viewmats, atol=1e-5)


@pytest.mark.parametrize("place", ["sparse", "sparse/0/cameras.bin", "cameras.json"])
def test_a_training_world_is_refused_where_nerfstudio_wrote_nothing(place, tmp_path):
    assert len(load_cameras(BANANA / place, world="file")) == 14
    with pytest.raises(SceneFormatError, match=r"world is training, but .* is no nerfstudio capture"):
        load_cameras(BANANA / place, world="training")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(SceneFormatError, match=r"dataparser is .*run\.json, but .* is no nerfstudio capture"):
        load_cameras(BANANA / place, dataparser=tmp_path / "run.json")


def test_intrinsics_per_frame_and_at_the_top(transforms):
    per_frame = transforms(
        {"fl_x": 500.0, "fl_y": 510.0, "cx": 300.0, "cy": 200.0}, fl_x=None, fl_y=None, cx=None, cy=None
    )
    assert load_cameras(per_frame).Ks[3].tolist() == [[500, 0, 300], [0, 510, 200], [0, 0, 1]]
    top_wins = transforms({"fl_x": 500.0}, fl_x=900.0)
    assert load_cameras(top_wins).Ks[0, 0, 0] == 900
    angle = transforms(fl_x=None, fl_y=None, camera_angle_x=1.0, cx=None, cy=None)
    focal = 320 / math.tan(0.5)
    assert torch.allclose(load_cameras(angle).Ks[0], torch.tensor([[focal, 0, 320], [0, focal, 212.5], [0, 0, 1]]))
    measured = transforms(w=None, h=None)
    assert load_cameras(measured).widths[0] == 640


def test_distortion_is_undone_and_the_principal_point_kept(transforms):
    path = transforms(k1=-0.05, k2=0.01, p1=0.001, p2=-0.002, cx=310.0)
    cameras = load_cameras(path)
    assert cameras.lenses[0].params == (-0.05, 0.01, 0.001, -0.002)
    assert cameras.Ks[0, 0, 2] == 310
    plain = load_cameras(transforms(k1=0, k2=0, p1=0, p2=0)).load_image(0)
    assert (cameras.load_image(0) - plain).abs().mean() > 0.005
    listed = load_cameras(transforms(distortion_params=[-0.05, 0.01, 0.0, 0.0, 0.001, -0.002], k1=None))
    assert listed.lenses[0].params == (-0.05, 0.01, 0.001, -0.002)
    fisheye = load_cameras(transforms(camera_model="OPENCV_FISHEYE", k1=-0.05, k3=0.1))
    assert fisheye.lenses[0].model == "OPENCV_FISHEYE"
    assert fisheye.lenses[0].params == (-0.05, 0.0, 0.1, 0.0)


def test_matrices_of_three_rows_and_smaller_pictures(transforms, tmp_path):
    path = transforms()
    document = json.loads(path.read_text())
    for frame in document["frames"]:
        frame["transform_matrix"] = frame["transform_matrix"][:3]
    path.write_text(json.dumps(document))
    whole = load_cameras(BANANA / "transforms.json")
    assert torch.equal(load_cameras(path).viewmats, whole.viewmats)
    (tmp_path / "images").rename(tmp_path / "images_2")
    assert load_cameras(path).image_paths[0] == tmp_path / "images_2" / "DSC_0423.jpg"


def test_blender_views():
    cameras = load_cameras(DATA / "plant" / "blender_views")
    assert cameras.names == [f"r_{i}" for i in range(8)]
    focal = 128 / math.tan(0.5 * 0.6911112070083618)
    assert torch.allclose(cameras.Ks[0], torch.tensor([[focal, 0, 128], [0, focal, 128], [0, 0, 1]]))
    assert cameras.image_paths[0].name == "r_0.png"
    assert torch.allclose(cameras.centers[0], torch.tensor([1.8647, -0.2839, 0.2286]), atol=1e-4)
    assert ((cameras.forwards * -cameras.centers).sum(1) > 1).all()  # they look at the plant
    assert torch.allclose(torch.linalg.det(cameras.viewmats[:, :3, :3]), torch.ones(8), atol=1e-5)
    assert (cameras.ups[:, 1] < -0.5).all()


def test_all_blender_splits_are_taken(tmp_path):
    document = json.loads((DATA / "plant/blender_views/transforms_train.json").read_text())
    for split in ("train", "test"):
        (tmp_path / f"transforms_{split}.json").write_text(json.dumps(document))
    cameras = load_cameras(tmp_path)
    assert len(cameras) == 16
    assert cameras.names[0] == "train/r_0"
    assert cameras.names[8] == "test/r_0"
    assert cameras.widths[0] == 800


def write_colmap_text(folder, model="PINHOLE", params="100 110 33 44", images=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cameras.txt").write_text(f"# cameras\n7 {model} 64 80 {params}\n")
    images = images or "3 1 0 0 0 0 0 0 7 sub folder/b shot.png\n1 2 -1 1.5\n1 2 0 0 0 1 2 3 7 sub folder/a.png\n\n"
    (folder / "images.txt").write_text("# images\n# second line\n" + images)
    return folder


def test_colmap_text_with_empty_point_lines_spaces_and_gaps(tmp_path):
    write_colmap_text(tmp_path / "deep" / "down" / "sparse" / "0")
    cameras = load_cameras(tmp_path)
    assert cameras.names == ["a", "b shot"]
    assert cameras.Ks[0].tolist() == [[100, 0, 33], [0, 110, 44], [0, 0, 1]]
    assert cameras.centers.tolist() == [[-1, -2, -3], [0, 0, 0]]
    assert cameras.image_paths == [None, None]


def test_the_larger_of_several_models_is_taken(tmp_path):
    write_colmap_text(tmp_path / "sparse" / "0", images="1 1 0 0 0 0 0 0 7 a.png\n\n")
    write_colmap_text(tmp_path / "sparse" / "1")
    assert len(load_cameras(tmp_path)) == 2


def test_binary_goes_before_text(tmp_path):
    shutil.copytree(BANANA / "sparse/0", tmp_path / "sparse")
    write_colmap_text(tmp_path / "sparse")
    assert len(load_cameras(tmp_path)) == 14


@pytest.mark.parametrize(
    ("model", "params", "lens"),
    [
        ("SIMPLE_PINHOLE", "100 33 44", ()),
        ("SIMPLE_RADIAL", "100 33 44 0.1", (0.1,)),
        ("OPENCV", "100 100 33 44 0.1 0.2 0.3 0.4", (0.1, 0.2, 0.3, 0.4)),
        ("OPENCV_FISHEYE", "100 100 33 44 0.1 0.2 0.3 0.4", (0.1, 0.2, 0.3, 0.4)),
        ("FOV", "100 100 33 44 0.9", (0.9,)),
    ],
)
def test_colmap_models(tmp_path, model, params, lens):
    cameras = load_cameras(write_colmap_text(tmp_path, model, params))
    assert cameras.Ks[0].tolist() == [[100, 0, 33], [0, 100, 44], [0, 0, 1]]
    assert cameras.lenses[0].model == model
    assert cameras.lenses[0].params == lens


COLMAP_MESSAGES = [
    (
        {"model": "EQUIRECTANGULAR", "params": "64 80"},
        "{folder}/cameras.txt has a camera of model EQUIRECTANGULAR; expected a camera that can become a pinhole: ",
    ),
    (
        {"model": "MAGIC"},
        "{folder}/cameras.txt cannot be read (ValueError: camera model MAGIC); expected a whole COLMAP file; "
        "copy the folder again, or export the model anew from COLMAP",
    ),
    (
        {"params": "100 110 33"},
        "{folder}/cameras.txt cannot be read (ValueError: 3 parameters for camera model PINHOLE, "
        "which has 4); "
        "expected a whole COLMAP file; copy the folder again, or export the model anew from COLMAP",
    ),
    (
        {"images": "1 1 0 0 0 0 0 0 9 a.png\n\n"},
        "{folder}/images.txt has pictures by camera 9; expected pictures taken by the cameras in "
        "cameras.txt; "
        "check that the files belong to the same model",
    ),
    (
        {"images": "\n"},
        "{folder}/images.txt has no pictures; expected pictures taken by the cameras in cameras.txt; "
        "check that the files belong to the same model",
    ),
]


@pytest.mark.parametrize(("content", "message"), COLMAP_MESSAGES)
def test_colmap_messages(tmp_path, content, message):
    with pytest.raises(SceneFormatError) as error:
        load_cameras(write_colmap_text(tmp_path, **content))
    assert str(error.value).startswith(message.format(folder=tmp_path))


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin"])
def test_cut_binary_files(tmp_path, name):
    shutil.copytree(BANANA / "sparse/0", tmp_path / "0")
    data = (tmp_path / "0" / name).read_bytes()
    (tmp_path / "0" / name).write_bytes(data[: len(data) - 10])
    with pytest.raises(SceneFormatError) as error:
        load_cameras(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / '0' / name} cannot be read (")
    assert str(error.value).endswith(
        "; expected a whole COLMAP file; copy the folder again, or export the model anew from COLMAP"
    )


KINDS = (
    "a COLMAP model (cameras and images, .bin or .txt), transforms.json, transforms_train.json, INRIA's cameras.json, "
    "LLFF's poses_bounds.npy, Metashape's XML or RealityCapture's CSV"
)
JSON_MESSAGES = [
    ({"fl_x": None, "fl_y": None}, "{path} gives no focal length; expected fl_x or camera_angle_x; add fl_x in pixels"),
    ({"fl_x": "wide"}, "{path}: fl_x is 'wide'; expected a number; correct fl_x"),
    (
        {"camera_model": "EQUIRECTANGULAR"},
        "{path} has camera_model 'EQUIRECTANGULAR'; expected OPENCV, PINHOLE, SIMPLE_PINHOLE, "
        "SIMPLE_RADIAL, RADIAL, "
        "FULL_OPENCV, PERSPECTIVE, OPENCV_FISHEYE; undistort the pictures first (ns-process-data or COLMAP's "
        "image_undistorter)",
    ),
    (
        {"k4": 0.1},
        "{path} has k4 = 0.1 for a camera that is no fisheye; expected k1, k2, k3, p1, p2; "
        "undistort the pictures first, or correct camera_model",
    ),
    (
        {"frames": []},
        "{path} has no frames; expected a transforms.json with a list of frames, or an INRIA "
        "cameras.json, which is a "
        "list; give another camera file",
    ),
    (
        {"applied_transform": [[1, 2], [3, 4]]},
        "{path}: applied_transform is not a matrix of 3x4 or 4x4 finite numbers; expected four "
        "columns: three axes and a "
        "position; correct or remove it",
    ),
]


@pytest.mark.parametrize(("changes", "message"), JSON_MESSAGES)
def test_transforms_messages(transforms, changes, message):
    path = transforms(**changes)
    with pytest.raises(SceneFormatError) as error:
        load_cameras(path)
    assert str(error.value) == message.format(path=path)


def test_other_messages(tmp_path, transforms):
    def message_of(path, **options):
        with pytest.raises(SceneFormatError) as error:
            load_cameras(path, **options)
        return str(error.value)

    assert message_of(tmp_path / "none") == (
        f"{tmp_path / 'none'} does not exist; expected {KINDS}; "
        "check the path given as cameras; leave it empty for an orbit around the scene"
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    assert message_of(empty) == (
        f"{empty} holds no cameras (it has nothing); expected {KINDS}; "
        "give the folder of the capture; leave cameras empty for an orbit around the scene"
    )
    (empty / "notes.md").write_text("hello")
    assert message_of(empty / "notes.md") == (
        f"{empty / 'notes.md'} is no camera file; expected {KINDS}; give the folder of the capture"
    )
    path = transforms({"transform_matrix": [[1, 0, 0, float("nan")]] * 4})
    assert message_of(path) == (
        f"{path}: transform_matrix of images/DSC_0423.jpg is not a matrix of 3x4 or 4x4 finite "
        "numbers; expected four "
        "columns: three axes and a position; correct or remove it"
    )
    assert message_of(transforms(), world="training") == (
        f"there is no dataparser_transforms.json beside {path}; expected the file that nerfstudio "
        "wrote into the folder "
        "of the training run; copy it beside transforms.json"
    )
    assert message_of(transforms(), dataparser=tmp_path / "no.json") == (
        f"{tmp_path / 'no.json'} does not exist; expected nerfstudio's dataparser_transforms.json; "
        "it lies in the folder of the training run, beside config.yml"
    )
    (tmp_path / "images").unlink()
    assert message_of(transforms(w=None)) == (
        f"{path} gives no w and h, and images/DSC_0423.jpg is not there to measure; expected w and "
        "h, or the pictures "
        "beside the file; add w and h in pixels at the top of the file"
    )
    broken = tmp_path / "cameras.json"
    broken.write_text("[{")
    assert message_of(broken).startswith(f"{broken} is not valid JSON (")
    broken.write_text("[]")
    assert message_of(broken) == (
        f"{broken} is not a list of cameras; expected INRIA's cameras.json: id, img_name, width, "
        "height, position, "
        "rotation, fx, fy; give another camera file"
    )
    entry = json.loads((BANANA / "cameras.json").read_text())[0]
    broken.write_text(json.dumps([{**entry, "rotation": [1, 2, 3]}]))
    assert message_of(broken) == (
        f"{broken}: camera DSC_0423 has no usable rotation and position; expected rotation: 3x3 "
        "finite numbers, "
        "position: 3; correct or remove it"
    )
    broken.write_text(json.dumps([{**entry, "fx": None}]))
    assert message_of(broken) == f"{broken}: fx is None; expected a number; correct fx"
    broken.write_text(json.dumps({"camera_angle_x": 9.0, "frames": [{"transform_matrix": np.eye(4).tolist()}]}))
    assert (
        message_of(broken)
        == f"{broken}: camera_angle_x is 9.0; expected radians between 0 and pi; correct camera_angle_x"
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_a_camera_file_may_start_with_a_byte_order_mark(banana, transforms, encoding):
    path = transforms()
    path.write_text(path.read_text(), encoding=encoding)
    assert torch.allclose(load_cameras(path).viewmats, banana.viewmats, atol=1e-6)


def test_text_models_may_start_with_a_byte_order_mark(banana, tmp_path):
    for name in ("cameras.txt", "images.txt"):
        text = (BANANA / "sparse_text" / name).read_text()
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    assert torch.equal(load_cameras(tmp_path).viewmats, load_cameras(BANANA / "sparse_text").viewmats)


def test_instant_ngp_says_fisheye_by_a_key_of_its_own(transforms):
    path = transforms(camera_model=None, is_fisheye=True, k1=0.03, k2=-0.004, k3=1e-6, k4=1e-6, p1=0, p2=0)
    lens = load_cameras(path).lenses[0]
    assert (lens.model, lens.params) == ("OPENCV_FISHEYE", (0.03, -0.004, 1e-6, 1e-6))
    with pytest.raises(SceneFormatError, match="camera_model 'FTHETA'"):
        load_cameras(transforms(camera_model=None, ftheta_p0=0.1))


def split_up(path):
    """Two files in place of one; the document that was in it."""
    document = json.loads(path.read_text())
    path.unlink()
    for split, frames in (("train", document["frames"][:4]), ("test", document["frames"][4:])):
        path.with_name(f"transforms_{split}.json").write_text(json.dumps({**document, "frames": frames}))
    return document


def test_splits_may_have_intrinsics_of_their_own(banana, transforms, tmp_path):
    split_up(transforms())
    cameras = load_cameras(tmp_path)
    rows = [banana.names.index(name.split("/")[-1]) for name in cameras.names]
    assert len(rows) == len(banana)
    assert torch.allclose(cameras.viewmats, banana.viewmats[rows], atol=1e-6)
    assert torch.allclose(cameras.Ks, banana.Ks[rows], atol=1e-4)
    assert all(path is not None for path in cameras.image_paths)


@pytest.mark.parametrize("is_beside", [True, False])
def test_splits_go_into_the_world_of_a_training(transforms, tmp_path, is_beside):
    """nerfstudio orients all frames at once, so its one transform holds for every split."""
    path = transforms()
    training = tmp_path / "dataparser_transforms.json" if is_beside else tmp_path / "run.json"
    training.write_text(json.dumps({"transform": [[0, 0, 1, 0.5], [1, 0, 0, 0], [0, 1, 0, -2]], "scale": 0.3}))
    options = {} if is_beside else {"dataparser": training, "world": "training"}
    whole = load_cameras(tmp_path, **options)
    split_up(path)
    split = load_cameras(tmp_path, **options)
    rows = [whole.names.index(name.split("/")[-1]) for name in split.names]
    assert sorted(rows) == list(range(len(whole)))
    assert torch.equal(split.viewmats, whole.viewmats[rows])


@pytest.mark.parametrize("value", [0, 0.0, -5, float("nan"), float("inf")])
def test_focal_lengths_that_no_camera_has_are_refused(transforms, value):
    with pytest.raises(SceneFormatError, match="fl_x|fx"):
        load_cameras(transforms(fl_x=value))
