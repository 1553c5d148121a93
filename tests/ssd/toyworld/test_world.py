"""The parametric world: scenes that differ in one word share everything else."""

import numpy as np
import pytest
import torch

from threestudio_ssd.cameras import load_cameras
from threestudio_ssd.toyworld import (
    ATTRIBUTES,
    PART_GROUND,
    PART_OBJECT,
    PART_SKY,
    Attributes,
    build_scene,
    object_yaw_deg,
    orbit_camera,
    sample_attributes,
    sample_camera,
    sample_view,
)
from threestudio_ssd.toyworld.captions import framing_of
from threestudio_ssd.toyworld.shapes import SHAPES, object_surface
from threestudio_ssd.toyworld.splat import save_cameras_json, to_cameras, to_gaussians
from threestudio_ssd.toyworld.vocabulary import COLOR_RGB, TIME_LIGHT
from threestudio_ssd.toyworld.world import SHARE_RANGE, sun_direction

GEOMETRY = ("means", "scales", "quats", "opacities", "parts")


def normals_of(quats):
    """Where rotations wxyz carry the z axis, by the sandwich product."""
    w, x, y, z = quats.T
    return np.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], -1)


@pytest.mark.parametrize("name", SHAPES)
def test_surfaces_stand_on_the_ground_and_have_unit_normals(name):
    surface = object_surface(name, 2000, np.random.default_rng(0))
    assert abs(len(surface.points) - 2000) < 120
    assert surface.points[:, 2].min() > -0.03
    assert 0.7 < surface.points[:, 2].max() < 3
    assert np.abs(surface.points[:, :2]).max() < 1.5
    np.testing.assert_allclose(np.linalg.norm(surface.normals, axis=-1), 1, atol=1e-9)
    assert len(surface.uv) == len(surface.rgbs) == len(surface.normals) == len(surface.points)


@pytest.mark.parametrize("name", ["ball", "cube", "cone", "cylinder", "donut"])
def test_normals_of_convex_parts_point_outwards(name):
    surface = object_surface(name, 2000, np.random.default_rng(0))
    middle = np.array([0, 0, surface.points[:, 2].mean()])
    if name == "donut":
        ring = surface.points * [1, 1, 0]
        middle = 0.85 * ring / np.linalg.norm(ring, axis=-1, keepdims=True) + [0, 0, 0.42]
    outward = ((surface.points - middle) * surface.normals).sum(-1)
    assert (outward > -1e-6).mean() > 0.99


def test_unknown_objects_are_refused():
    with pytest.raises(KeyError):
        object_surface("teapot", 10, np.random.default_rng(0))


@pytest.mark.parametrize("attributes", [Attributes(), Attributes("car", "white", "dotted", "wood", "night")])
def test_a_scene_is_well_formed(attributes):
    scene = build_scene(attributes, 3)
    n = len(scene.means)
    widths = {"means": (3,), "scales": (3,), "quats": (4,), "opacities": (), "rgbs": (3,), "parts": ()}
    for name, width in widths.items():
        assert getattr(scene, name).shape == (n, *width), name
    assert scene.scales.min() > 0
    np.testing.assert_allclose(np.linalg.norm(scene.quats, axis=-1), 1, atol=1e-5)
    for values in (scene.opacities, scene.rgbs):
        assert values.min() >= 0
        assert values.max() <= 1
    assert set(scene.parts) == {PART_OBJECT, PART_GROUND, PART_SKY}
    ground, sky = scene.parts == PART_GROUND, scene.parts == PART_SKY
    assert np.abs(scene.means[ground, 2]).max() == 0
    np.testing.assert_allclose(np.linalg.norm(scene.means[sky], axis=-1), 12, rtol=1e-5)
    np.testing.assert_allclose(normals_of(scene.quats[ground]), np.tile([0, 0, 1], (ground.sum(), 1)), atol=1e-6)
    np.testing.assert_allclose(normals_of(scene.quats[sky]), scene.means[sky] / 12, atol=1e-4)
    np.testing.assert_allclose(scene.rgbs[sky], np.tile(TIME_LIGHT[attributes.time].sky_rgb, (sky.sum(), 1)), atol=1e-6)


def test_the_seed_decides_all_that_is_left_open():
    first, same, other = (build_scene(Attributes(), seed) for seed in (1, 1, 2))
    assert all(np.array_equal(getattr(first, name), getattr(same, name)) for name in (*GEOMETRY, "rgbs"))
    assert not np.array_equal(first.means, other.means)
    assert not np.array_equal(first.rgbs, other.rgbs)


@pytest.mark.parametrize(
    ("change", "changed_part"),
    [({"color": "blue"}, PART_OBJECT), ({"pattern": "striped"}, PART_OBJECT), ({"ground": "snow"}, PART_GROUND)],
)
def test_one_word_changes_the_colours_of_one_part(change, changed_part):
    before, after = build_scene(Attributes(), 5), build_scene(Attributes()._replace(**change), 5)
    for name in GEOMETRY:
        assert np.array_equal(getattr(before, name), getattr(after, name)), name
    is_changed = (before.rgbs != after.rgbs).any(-1)
    assert not is_changed[before.parts != changed_part].any()
    assert is_changed[before.parts == changed_part].mean() > 0.3


def test_another_time_lights_everything_and_moves_nothing():
    before, after = build_scene(Attributes(), 5), build_scene(Attributes(time="night"), 5)
    assert all(np.array_equal(getattr(before, name), getattr(after, name)) for name in GEOMETRY)
    lit = before.parts != PART_SKY
    np.testing.assert_allclose(after.rgbs[lit], before.rgbs[lit] * np.float32(TIME_LIGHT["night"].light_rgb), atol=0.02)


def test_another_object_leaves_ground_and_sky():
    before, after = build_scene(Attributes(), 5), build_scene(Attributes("cube"), 5)
    for part in (PART_GROUND, PART_SKY):
        for name in ("means", "rgbs"):
            assert np.array_equal(
                getattr(before, name)[before.parts == part], getattr(after, name)[after.parts == part]
            )


@pytest.mark.parametrize("color", COLOR_RGB)
def test_a_plain_object_has_its_colour(color):
    scene = build_scene(Attributes(color=color), 0)
    brightest = scene.rgbs[scene.parts == PART_OBJECT].max(axis=0)
    np.testing.assert_allclose(brightest, COLOR_RGB[color], atol=0.08)


def test_labels_round_trip():
    rng = np.random.default_rng(0)
    for _ in range(50):
        attributes = sample_attributes(rng)
        assert Attributes.from_labels(attributes.labels()) == attributes
        assert all(getattr(attributes, name) in values for name, values in ATTRIBUTES.items())


def test_gaussians_are_the_scene():
    scene = build_scene(Attributes(), 0)
    gaussians = to_gaussians(scene)
    assert gaussians.sh_degree == 0
    torch.testing.assert_close(gaussians.scales, torch.from_numpy(scene.scales))
    torch.testing.assert_close(gaussians.opacities, torch.from_numpy(scene.opacities))
    torch.testing.assert_close(0.5 + 0.28209479 * gaussians.sh0[:, 0], torch.from_numpy(scene.rgbs), atol=1e-6, rtol=0)
    assert gaussians.means.dtype == torch.float32


def test_orbit_cameras_look_at_their_target_upright():
    for azimuth, elevation in ((0, 0), (90, 30), (215, 60)):
        viewmat = orbit_camera(azimuth, elevation, 4.0, (1, 2, 3)).viewmat.astype(float)
        np.testing.assert_allclose(viewmat @ [1, 2, 3, 1], [0, 0, 4, 1], atol=1e-5)
        np.testing.assert_allclose(viewmat[:3, :3] @ viewmat[:3, :3].T, np.eye(3), atol=1e-6)
        assert np.linalg.det(viewmat[:3, :3]) == pytest.approx(1)
        assert viewmat[1, 2] < 0.0 or elevation == 90  # world up shows upwards: image y points down
        assert abs(viewmat[0, 2]) < 1e-6
    eye = -np.linalg.inv(orbit_camera(90, 0, 2.0, (0, 0, 0)).viewmat)[:3, 3]
    np.testing.assert_allclose(eye, [0, -2, 0], atol=1e-6)


def test_cameras_survive_a_file(tmp_path):
    rng = np.random.default_rng(1)
    cameras = to_cameras([sample_camera(rng) for _ in range(5)], 64, 48)
    save_cameras_json(cameras, tmp_path / "cameras.json")
    loaded = load_cameras(tmp_path / "cameras.json")
    assert loaded.names == cameras.names == [f"view_{index:03d}" for index in range(5)]
    torch.testing.assert_close(loaded.viewmats, cameras.viewmats, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(loaded.Ks, cameras.Ks, atol=1e-4, rtol=0)
    assert torch.equal(loaded.widths, cameras.widths)
    assert torch.equal(loaded.heights, cameras.heights)


@pytest.mark.parametrize("is_wide", [False, True])
def test_views_stand_where_they_say(is_wide):
    rng, middle = np.random.default_rng(0), np.array([0, 0, 0.9])
    for _ in range(100):
        camera, azimuth_deg, elevation_deg, share, offset = sample_view(rng, is_wide=is_wide)
        assert not is_wide or SHARE_RANGE[0] <= share <= SHARE_RANGE[1]
        x, y, z = (camera.viewmat @ [0, 0, 0.9, 1])[:3]
        assert np.hypot(x, y) / z / np.tan(np.radians(camera.fov_y_deg) / 2) == pytest.approx(offset, abs=0.02)
        eye = -camera.viewmat[:3, :3].astype(float).T @ camera.viewmat[:3, 3] - middle
        turn = (np.degrees(np.arctan2(eye[1], eye[0])) - azimuth_deg + 180) % 360 - 180
        assert abs(turn) < 4
        assert np.degrees(np.arcsin(eye[2] / np.linalg.norm(eye))) == pytest.approx(elevation_deg, abs=3)


def test_wide_views_show_the_object_anywhere_and_at_many_sizes():
    rng, size, places, heights = np.random.default_rng(0), 64, [], []
    for _ in range(300):
        camera = sample_view(rng, is_wide=True).camera
        middle = camera.viewmat @ [0, 0, 0.9, 1]
        place = (camera.intrinsics(size, size) @ middle[:3])[:2] / middle[2] / size
        assert np.all((place > 0) & (place < 1))
        places.append(place)
        heights.append(2 / middle[2] / (2 * np.tan(np.radians(camera.fov_y_deg) / 2)))
    assert np.std(places, axis=0).min() > 0.1
    assert np.min(heights) == pytest.approx(0.22, abs=0.03)
    assert np.max(heights) == pytest.approx(0.9, abs=0.03)


def test_plain_views_are_the_cameras_of_a_capture():
    view = sample_view(np.random.default_rng(3), is_wide=False)
    assert framing_of(view.share, view.offset) == ""
    np.testing.assert_array_equal(view.camera.viewmat, sample_camera(np.random.default_rng(3)).viewmat)


def test_the_yaw_says_where_the_front_is():
    for seed in (1, 2, 3):
        scene = build_scene(Attributes("house"), seed)
        door = (scene.parts == PART_OBJECT) & np.all(scene.rgbs < 0.1, 1) & (scene.means[:, 2] < 0.78)
        x, y, _ = scene.means[door].mean(0)
        turn = (np.degrees(np.arctan2(y, x)) - object_yaw_deg(seed) + 180) % 360 - 180
        assert abs(turn) < 3


def test_the_scene_without_its_object_has_no_shadow_and_is_else_the_same():
    attributes = Attributes(object="car", ground="sand")
    whole, empty = build_scene(attributes, 4), build_scene(attributes, 4, has_object=False)
    rest = whole.parts != PART_OBJECT
    assert PART_OBJECT not in empty.parts
    for name in ("means", "scales", "quats", "opacities", "parts"):
        assert np.array_equal(getattr(empty, name), getattr(whole, name)[rest]), name
    ratios = whole.rgbs[rest] / empty.rgbs
    assert ratios.min() < 0.65
    assert ratios.max() <= 1.0
    far = np.linalg.norm(empty.means, axis=1) > 3
    np.testing.assert_allclose(ratios[far], 1, atol=1e-4)


def test_what_faces_the_sun_is_bright_and_what_faces_away_is_as_dark_as_everything_else_that_does():
    for seed in (1, 2, 3):
        scene = build_scene(Attributes("ball"), seed)
        is_object = scene.parts == PART_OBJECT
        facing = normals_of(scene.quats[is_object]) @ sun_direction(seed)
        brightness = scene.rgbs[is_object].sum(1)
        assert np.corrcoef(facing[facing > 0], brightness[facing > 0])[0, 1] > 0.99
        assert np.ptp(brightness[facing < 0]) < 0.01 * brightness.max()
