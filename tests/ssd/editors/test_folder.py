"""The folder editor: writes views with masks and cameras and stops, takes edited pictures back by name."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from tests.edit_world import toy_cameras
from threestudio_ssd.cameras import load_cameras
from threestudio_ssd.editors import EditorKeys, EditorPrompts, build_editor, load_editor
from threestudio_ssd.editors.folder import EditsAwaited
from threestudio_ssd.errors import ConfigError, SceneFormatError
from threestudio_ssd.images import as_tensor, read_rgb, save_image


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "edit"


@pytest.fixture
def editor(folder):
    keys = EditorKeys(editor={"name": "folder", "folder": str(folder)}, batch_size=2)
    return load_editor(keys, torch.device("cpu"), EditorPrompts("a ball", "a cube"))


@pytest.fixture
def named_views(views):
    return replace(views, names=["front", "left/1", "back"], cameras=toy_cameras(3))


def put(folder, name, image):
    save_image(folder / "edited" / name, image.permute(1, 2, 0))


def test_views_masks_and_cameras_are_written_and_the_run_stops(editor, named_views, folder):
    with pytest.raises(EditsAwaited) as stop:
        editor(named_views)
    assert str(stop.value) == (
        f"3 views were written to {folder / 'views'}; expected edited pictures of the same names in "
        f"{folder / 'edited'}; edit them, put them there, and run the same command again"
    )
    for index, name in enumerate(["front", "left_1", "back"]):
        view = as_tensor(read_rgb(folder / "views" / f"{name}.png", ""))[0]
        torch.testing.assert_close(view, named_views.images[index], atol=0.5 / 255 + 1e-6, rtol=0)
        mask = as_tensor(read_rgb(folder / "masks" / f"{name}.png", ""))[0, :1]
        assert torch.equal(mask, named_views.masks[index])
    cameras = load_cameras(folder / "transforms.json")
    order = [cameras.names.index(name) for name in ["front", "left_1", "back"]]
    torch.testing.assert_close(cameras.viewmats[order], named_views.cameras.viewmats, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(cameras.Ks[order], named_views.cameras.Ks)
    assert all(path.is_file() for path in cameras.image_paths)


def test_edited_pictures_are_taken_by_name_at_any_size_of_the_aspect(editor, named_views, folder):
    put(folder, "front.png", torch.full((3, 32, 32), 0.2))
    put(folder, "left_1.png", torch.full((3, 80, 80), 0.4))
    save_image(folder / "edited" / "back.jpg", torch.full((32, 32, 3), 0.6))
    edited, inside = editor(named_views), named_views.masks[0, 0] > 0
    for row, value in zip(edited, (0.2, 0.4, 0.6), strict=True):
        assert torch.allclose(row[:, inside], torch.tensor(value), atol=2 / 255)
    outside = (named_views.masks == 0).expand_as(edited)
    assert torch.equal(edited[outside], named_views.kept[outside])
    assert not (folder / "views").exists()


def test_missing_and_misshapen_pictures_are_named(editor, named_views, folder):
    put(folder, "front.png", torch.rand(3, 32, 32))
    with pytest.raises(ConfigError, match=r"edited lacks 2 of 3 pictures: left_1, back; expected one for each"):
        editor(named_views)
    put(folder, "left_1.png", torch.rand(3, 32, 48))
    put(folder, "back.png", torch.rand(3, 64, 64))
    with pytest.raises(SceneFormatError, match=r"1 pictures of another aspect .*: left_1 is 48x32; expected 32x32"):
        editor(named_views)


def test_a_long_list_is_cut(editor, whole, folder):
    many = replace(whole, names=[f"v{i}" for i in range(9)], **{
        name: getattr(whole, name)[[0] * 9] for name in ("images", "sources")
    }, seeds=[0] * 9)  # fmt: skip
    put(folder, "v0.png", torch.rand(3, 32, 32))
    with pytest.raises(ConfigError, match=r"v1, v2, v3, v4, v5 and 3 more;"):
        editor(many)


def test_a_picture_that_is_none(editor, named_views, folder):
    for name in ("front", "left_1", "back"):
        put(folder, f"{name}.png", torch.rand(3, 32, 32))
    (folder / "edited" / "back.png").write_text("nothing")
    with pytest.raises(SceneFormatError, match=r"back\.png"):
        editor(named_views)


def test_views_of_one_name(editor, named_views):
    with pytest.raises(ConfigError, match=r"two views are named a_b"):
        editor(replace(named_views, names=["a/b", "a_b", "c"]))
    with pytest.raises(ValueError, match="needs the names"):
        editor(replace(named_views, names=None))


def test_keys():
    with pytest.raises(ConfigError, match=r"system.editing.editor.folder is empty; .*set system.editing.editor.folder"):
        build_editor({"name": "folder"})
    with pytest.raises(ConfigError, match=r"image_size is 0"):
        build_editor({"name": "folder", "folder": "a", "image_size": 0})


def test_a_grey_picture_with_alpha_is_read(editor, whole, folder):
    (folder / "edited").mkdir(parents=True)
    for name in "abc":
        Image.new("LA", (32, 32), (255, 255)).save(folder / "edited" / f"{name}.png")
    assert torch.equal(editor(replace(whole, names=list("abc"))), torch.ones_like(whole.images))
