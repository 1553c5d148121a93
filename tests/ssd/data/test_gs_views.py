"""The data module: pools, sizes, and where the views come from."""

import json

import numpy as np
import pytest
import torch

from tests.edit_world import REPOSITORY, toy_cameras, toy_parts
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.cameras import cameras_extent, concatenate
from threestudio_ssd.data.modules import GSViews
from threestudio_ssd.gaussians import load_gaussians, save_gaussians
from threestudio_ssd.host import parse_structured
from threestudio_ssd.masks import MaskConfig, find_selection
from threestudio_ssd.rendering import render_bchw
from threestudio_ssd.toyworld.splat import save_cameras_json


@pytest.fixture(scope="module")
def gaussians():
    return toy_parts(keep_every=10)[0]


@pytest.fixture
def capture(tmp_path):
    save_cameras_json(toy_cameras(16, 100).resized(120, 80), tmp_path / "cameras.json")
    return str(tmp_path / "cameras.json")


def test_an_orbit_where_there_are_no_cameras(gaussians):
    data = GSViews({"num_train_views": 10, "num_test_views": 3, "test_size": 40, "video_frames": 5})
    views = data.plan.views(gaussians, model_size=64, size_multiple=8)
    assert data.plan.capture is None
    assert (len(views.train), len(views.test), len(views.video)) == (10, 3, 5)
    assert views.train.widths.tolist() == views.train.heights.tolist() == [64] * 10
    assert views.test.widths.tolist() == views.video.heights.tolist()[:3] == [40] * 3
    assert (views.train.centers - views.orbit.center).norm(dim=1).min() > 0.9 * views.orbit.radius


def test_the_orbit_s_keys_are_followed(gaussians):
    keys = {"center": [0.0, 0.0, 1.0], "radius": 4.0, "up": "+z", "elevation_deg": [30.0, 30.0], "fov_y_deg": 60.0}
    views = GSViews({**keys, "radius_scale": [1.0, 1.0], "size": 32}).plan.views(gaussians, 64, 8)
    away = views.train.centers - torch.tensor([0.0, 0.0, 1.0])
    torch.testing.assert_close(away.norm(dim=1), torch.full((96,), 4.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(away[:, 2], torch.full((96,), 2.0), atol=1e-4, rtol=0)
    assert views.train.widths[0] == 32
    assert float(2 * torch.atan(16 / views.train.Ks[0, 1, 1]).rad2deg()) == pytest.approx(60, abs=1e-3)


@pytest.mark.parametrize(
    ("said", "up"), [("z", [0, 0, 1]), ("-X", [-1, 0, 0]), ("-y", [0, -1, 0]), ("sideways", [0, -1, 0])]
)
def test_an_orbit_stands_as_the_file_says(said, up, tmp_path):
    """A cloud without a ground; -y is what programs write without looking, and what is taken anyhow."""
    scene = toy_parts(keep_every=50)[0]
    scene = scene.replace(means=torch.randn(scene.means.shape))
    save_gaussians(scene, tmp_path / "scene.ply")
    lines = (tmp_path / "scene.ply").read_bytes().split(b"\n", 2)
    (tmp_path / "said.ply").write_bytes(b"\n".join([*lines[:2], f"comment Vertical Axis: {said}".encode(), lines[2]]))
    for file in ("said.ply", "said.glb"):
        scene = load_gaussians(tmp_path / file)
        assert GSViews({}).plan.views(scene, 64, 8).orbit.up.tolist() == up
        save_gaussians(scene, tmp_path / "said.glb")
    assert GSViews({"up": "+y"}).plan.views(scene, 64, 8).orbit.up.tolist() == [0, 1, 0]


def test_a_flat_ground_is_believed_before_a_file_that_says_the_usual(tmp_path):
    scene = toy_parts(keep_every=10)[0]
    means = torch.rand(scene.means.shape) * torch.tensor([4.0, 4.0, 2.0])
    means[::2, 2] = 0
    scene = scene.replace(means=means, logit_opacities=torch.ones(len(scene)))
    save_gaussians(scene, tmp_path / "scene.glb")  # which says -y: that is what most are
    assert GSViews({}).plan.views(load_gaussians(tmp_path / "scene.glb"), 64, 8).orbit.up.tolist() == [0, 0, 1]


@pytest.mark.filterwarnings("ignore::threestudio_ssd.gaussians.io.SceneFormatWarning")
def test_map_coordinates_give_the_views_and_the_selection_of_the_same_scene_at_home(tmp_path):
    """Splat, cameras and keys in metres of a map: what is rendered and selected is what it is near the origin."""
    from plyfile import PlyData, PlyElement

    from threestudio_ssd.report.scene_info import scene_facts

    place, file = np.array([456789.25, 5432100.5, 231.0]), tmp_path / "far.ply"
    near = toy_parts(keep_every=20)[0]
    save_gaussians(near, tmp_path / "near.ply")
    table = PlyData.read(tmp_path / "near.ply")["vertex"].data
    kinds = [(name, "f8" if name in "xyz" else kind) for name, kind in table.dtype.descr]
    table = table.astype(kinds)
    for axis, start in zip("xyz", place, strict=True):
        table[axis] += start
    PlyData([PlyElement.describe(table, "vertex")]).write(file)
    save_cameras_json(toy_cameras(8, 32), tmp_path / "near.json")
    entries = json.loads((tmp_path / "near.json").read_text())
    for entry in entries:
        entry["position"] = (np.array(entry["position"]) + place).tolist()
    (tmp_path / "cameras.json").write_text(json.dumps(entries))

    far = load_gaussians(file)
    keys = {"num_train_views": 8, "num_test_views": 2, "check_capture": False, "center": place.tolist()}
    plan = GSViews({**keys, "cameras": str(tmp_path / "cameras.json")}).plan
    (tmp_path / "cameras.json").write_bytes((tmp_path / "near.json").read_bytes())
    home = GSViews({**keys, "cameras": str(tmp_path / "cameras.json"), "center": [0.0, 0.0, 0.0]}).plan
    views, views_at_home = plan.views(far, 32, 8), home.views(near, 32, 8)
    for name in ("train", "test"):
        images = render_bchw(far, getattr(views, name), torch.zeros(3))
        assert (images - render_bchw(near, getattr(views_at_home, name), torch.zeros(3))).abs().max() < 0.02
    orbit = GSViews({**keys, "num_train_views": 1}).plan.views(far, 32, 8).orbit
    assert (orbit.center + torch.tensor(far.offset) - torch.tensor(place)).abs().max() < 1  # the float32 of a map
    sphere, chosen = [0.0, 0.0, 0.9, 1.2], []
    for scene, numbers in ((near, sphere), (far, [*(place + sphere[:3]).tolist(), 1.2])):
        mask = parse_structured(MaskConfig, {"sphere": numbers})
        chosen.append(find_selection(mask, scene, views.train, None, torch.zeros(3)).is_selected)
    assert 0.1 < float(chosen[0].float().mean()) < 0.9
    assert torch.equal(*chosen)
    box = next(key for key in scene_facts(far)["keys"] if key.startswith("mask.box="))
    box = parse_structured(MaskConfig, {"box": json.loads(box[9:])})
    inside = find_selection(box, far, views.train, None, torch.zeros(3)).is_selected
    assert 0.5 < float(inside.float().mean()) < 0.95


def test_a_capture_s_own_cameras_train_and_its_orbit_is_held_out(gaussians, capture):
    data = GSViews({"cameras": capture, "num_train_views": 6, "num_test_views": 4, "test_size": 48, "video_frames": 0})
    views = data.plan.views(gaussians, model_size=32, size_multiple=8)
    assert set(views.train.names) <= set(data.plan.capture.names)
    assert len(views.train) == 6
    assert (int(views.train.widths[0]), int(views.train.heights[0])) == (48, 32)
    assert len(views.test) == 4
    assert len(views.video) == 0
    distances = torch.cdist(views.test.centers, data.plan.capture.centers)
    assert distances.min() > 0.05
    assert (views.test.centers - torch.tensor([0.0, 0.0, 0.9])).norm(dim=1).sub(5.4).abs().max() < 0.05


def test_the_extent_is_that_of_all_cameras_which_training_views_are_drawn_from(gaussians, capture):
    """Neither the draw nor a cut changes it; with data.views=orbit they are the orbit's."""
    whole = cameras_extent(toy_cameras(16, 100))
    for keys in ({"num_train_views": 2}, {"num_train_views": 96}):
        plan = GSViews({"cameras": capture, **keys}).plan
        assert plan.views(gaussians, 32, 8).extent == pytest.approx(whole, rel=1e-5)
    plan = GSViews({"cameras": capture, "crop": "selection"}).plan
    is_selected = torch.arange(len(gaussians)) < 20
    views = plan.views(gaussians, 32, 8)
    assert plan.cropped(views, gaussians, is_selected).extent == views.extent
    views = GSViews({"cameras": capture, "views": "orbit", "num_train_views": 24}).plan.views(gaussians, 32, 8)
    assert views.extent == cameras_extent(views.train) != pytest.approx(whole, rel=1e-3)
    views = GSViews({"num_train_views": 24}).plan.views(gaussians, 32, 8)
    assert views.extent == cameras_extent(views.train)


def test_sides_are_rounded_to_what_the_model_takes(gaussians, capture):
    views = GSViews({"cameras": capture, "size": 50}).plan.views(gaussians, 64, 16)
    assert (int(views.train.widths[0]), int(views.train.heights[0])) == (80, 48)


@pytest.mark.parametrize(("shorter", "multiple"), [(64, 8), (50, 16)])
def test_portrait_and_landscape_views_get_one_size_without_being_squashed(gaussians, tmp_path, shorter, multiple):
    """A capture of both kinds: focal lengths stay equal, and the middle of each picture stays in the middle."""
    wide = toy_cameras(16, 90).cropped(-15, 0, 120, 90)
    tall = wide.cropped(15, -15, 90, 120)
    mixed = concatenate([tall[row] if row % 3 == 1 else wide[row] for row in range(16)])
    save_cameras_json(mixed, tmp_path / "cameras.json")
    data = GSViews({"cameras": str(tmp_path / "cameras.json"), "size": shorter, "test_size": 51, "video_frames": 3})
    train = data.plan.views(gaussians, 64, multiple).train
    assert train.widths.unique().tolist() == [round(shorter * 4 / 3 / multiple) * multiple]
    assert train.heights.unique().tolist() == [round(shorter / multiple) * multiple]
    assert len(train) == 16
    torch.testing.assert_close(train.Ks[:, 0, 0], train.Ks[:, 1, 1])
    torch.testing.assert_close(train.Ks[:, 0, 2], train.widths / 2)
    torch.testing.assert_close(train.Ks[:, 1, 2], train.heights / 2)
    one_side = concatenate([mixed[0], mixed[1], mixed[2]])
    save_cameras_json(one_side, tmp_path / "cameras.json")
    views = GSViews({"cameras": str(tmp_path / "cameras.json"), "test_size": 51, "video_frames": 3}).plan.views(
        gaussians, 64, multiple
    )
    for cameras in (views.train, views.test, views.video):
        torch.testing.assert_close(cameras.Ks[:, 0, 0], cameras.Ks[:, 1, 1])
        assert len(cameras.widths.unique()) == len(cameras.heights.unique()) == 1


@pytest.mark.parametrize(("width", "height"), [(120, 80), (80, 120), (90, 90)])
def test_a_square_frame_is_the_middle_of_each_view(gaussians, tmp_path, width, height):
    """A world point is where the whole image has it, moved by half of what was cut off; also off the optical axis."""
    off_centre = toy_cameras(16, 160).cropped(21, 13, width, height)
    save_cameras_json(off_centre, tmp_path / "cameras.json")
    keys = {"cameras": str(tmp_path / "cameras.json"), "num_train_views": 16, "size": 50, "frame": "square"}
    plan = GSViews(keys).plan
    views = plan.views(gaussians, 64, 8)
    assert views.size == (48, 48)
    assert views.train.widths.tolist() == views.train.heights.tolist() == [48] * 16
    points = plan.capture.centers[:, None] + plan.capture.forwards[:, None] + 0.1 * torch.randn(16, 5, 3)
    whole, cut = (pixels_of(cameras, points) for cameras in (plan.capture, views.train))
    left, top = (width - min(width, height)) / 2, (height - min(width, height)) / 2
    expected = (whole - torch.tensor([left, top])) * 48 / min(width, height)
    torch.testing.assert_close(cut, expected, atol=1e-3, rtol=1e-5)


def pixels_of(cameras, points):
    """(c m 2) where each camera sees its points."""
    turned = points @ cameras.viewmats[:, :3, :3].mT + cameras.viewmats[:, None, :3, 3]
    seen = turned @ cameras.Ks.mT
    return seen[..., :2] / seen[..., 2:]


def test_square_frames_of_a_mixed_capture_and_what_else_they_leave_alone(gaussians, tmp_path):
    """Portraits among landscapes; rendered finer than they are fed; held-out views of the capture stay whole."""
    wide = toy_cameras(24, 90).cropped(-15, 0, 120, 90)[:9]
    tall = wide.cropped(15, -15, 90, 120)
    save_cameras_json(concatenate([tall[:3], wide[3:]]), tmp_path / "cameras.json")
    keys = {"cameras": str(tmp_path / "cameras.json"), "test_size": 60, "frame": "square", "render_size": 128}
    views = GSViews(keys).plan.views(gaussians, 64, 8)
    assert views.size == (64, 64)
    assert views.train.widths.tolist() == views.train.heights.tolist() == [128] * 9
    torch.testing.assert_close(views.train.Ks[:, 0, 0], wide.Ks[:, 0, 0] * 128 / 90)
    torch.testing.assert_close(views.train.Ks[:, :2, 2], torch.full((9, 2), 64.0))
    assert (int(views.test.widths[0]), int(views.test.heights[0])) == (80, 60)
    orbit = GSViews(keys | {"views": "orbit"}).plan.views(gaussians, 64, 8)
    whole = GSViews(keys | {"views": "orbit", "frame": "native"}).plan.views(gaussians, 64, 8)
    assert torch.equal(orbit.train.Ks, whole.train.Ks)


@pytest.mark.parametrize(
    ("config", "frame"),
    [
        ("ssd-gs", "native"), ("ssd-gs-sd15", "square"), ("ssd-gs-sd21", "square"), ("ssd-gs-turbo", "square"),
        ("ssd-gs-lcm", "square"),
        ("ssd-gs-ip2p", "square"), ("ssd-gs-sdxl", "native"), ("ssd-gs-sd3", "native"), ("plant", "native"),
    ],
)  # fmt: skip
def test_stable_diffusion_1_and_2_get_squares(config, frame):
    assert complete(load_config(REPOSITORY / "configs" / f"{config}.yaml")).data.frame == frame


def test_an_orbit_beside_a_capture(gaussians, capture):
    views = GSViews({"cameras": capture, "views": "orbit", "num_train_views": 5}).plan.views(gaussians, 32, 8)
    assert views.train.names[0].startswith("orbit")
    assert views.train.widths[0] == views.train.heights[0] == 32


def test_a_capture_from_one_side_is_tested_on_itself(gaussians, tmp_path):
    save_cameras_json(toy_cameras(24)[:9], tmp_path / "cameras.json")
    data = GSViews({"cameras": str(tmp_path / "cameras.json"), "num_test_views": 3, "test_size": 40, "video_frames": 4})
    views = data.plan.views(gaussians, 32, 8)
    assert views.test.names == ["view_000", "view_004", "view_008"]
    assert len(views.video) == 4
    assert set(views.video.names) <= set(data.plan.capture.names)
    no_video = GSViews({"cameras": str(tmp_path / "cameras.json"), "video_frames": 0})
    assert len(no_video.plan.views(gaussians, 32, 8).video) == 0


def test_the_same_seed_gives_the_same_views(gaussians, capture):
    first, same, other = (
        GSViews({"cameras": capture, "num_train_views": 6, "seed": seed}).plan.views(gaussians, 32, 8).train.names
        for seed in (0, 0, 1)
    )
    assert first == same
    assert first != other


def test_loaders_never_end_or_hold_one_item():
    data = GSViews({})
    steps = iter(data.train_dataloader())
    assert [next(steps) for _ in range(3)] == [{}, {}, {}]
    for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        assert list(loader) == [{}]
