"""Masks combined: and, or, not; saved and given back; grown; shown."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from tests.edit_world import object_masks, toy_cameras, toy_parts
from threestudio_ssd.errors import ConfigError, SceneFormatError
from threestudio_ssd.masks import (
    MaskConfig,
    Selection,
    find_selection,
    in_box,
    in_sphere,
    load_selection,
    preview_images,
    settle_mask,
)
from threestudio_ssd.masks import text as text_module
from threestudio_ssd.masks.selection import Evidence

BLACK = torch.zeros(3)
UPPER, BALL = [-9.0, -9.0, 1.0, 9.0, 9.0, 3.0], [0.7, 0.0, 0.9, 0.7]


@pytest.fixture(scope="module")
def toy():
    gaussians, is_object = toy_parts(keep_every=8)
    return SimpleNamespace(gaussians=gaussians, is_object=is_object, cameras=toy_cameras(6, 48))


@pytest.fixture
def pictures(toy, tmp_path):
    """A folder of exact masks."""
    for name, mask in zip(toy.cameras.names, object_masks(toy.gaussians, toy.is_object, toy.cameras), strict=True):
        Image.fromarray((mask.numpy() * 255).astype(np.uint8)).save(tmp_path / f"{name}.png")
    return str(tmp_path)


def chosen(toy, **keys):
    return find_selection(MaskConfig(**keys), toy.gaussians, toy.cameras, toy.cameras, BLACK).is_selected


def test_without_keys_everything_may_change(toy):
    assert chosen(toy).all()


def test_several_keys_must_all_hold(toy, pictures):
    traced, box = chosen(toy, picture=pictures), chosen(toy, box=UPPER)
    both = chosen(toy, picture=pictures, box=UPPER)
    assert torch.equal(both, traced & box)
    assert 0 < both.sum() < traced.sum()


def test_or_and_not_at_any_depth(toy):
    means = toy.gaussians.means
    upper, ball = in_box(means, UPPER), in_sphere(means, BALL)
    east = in_box(means, [0, -9, -9, 9, 9, 9])
    assert torch.equal(chosen(toy, any_of=[{"box": UPPER}, {"sphere": BALL}]), upper | ball)
    assert torch.equal(chosen(toy, sphere=BALL, none_of=[{"box": UPPER}]), ball & ~upper)
    assert torch.equal(chosen(toy, none_of=[{"box": UPPER}, {"sphere": BALL}]), ~(upper | ball))
    nested = chosen(
        toy, any_of=[{"box": UPPER, "none_of": [{"sphere": BALL}]}, {"sphere": BALL, "box": [0, -9, -9, 9, 9, 9]}]
    )
    assert torch.equal(nested, (upper & ~ball) | (ball & east))


def test_growing_comes_last(toy):
    small = chosen(toy, sphere=BALL)
    assert (chosen(toy, sphere=BALL, grow=0.2) & small).sum() == small.sum() < chosen(toy, sphere=BALL, grow=0.2).sum()
    assert 0 < chosen(toy, sphere=BALL, grow=-0.15).sum() < small.sum()


def test_a_text_mask_is_traced_in_views_of_its_own_size(toy, monkeypatch):
    sizes = []

    class Segmenter(text_module.Segmenter):
        def find(self, images, text, threshold):
            sizes.append(tuple(images.shape))
            cameras = toy.cameras[[0, 2, 5]].resized(images.shape[-1], images.shape[-2])
            return object_masks(toy.gaussians, toy.is_object, cameras) > 0.5

    monkeypatch.setattr(text_module, "load_segmenter", lambda *args, **more: Segmenter())
    is_selected = chosen(toy, text="the ball", num_views=3, view_size=64)
    assert sizes == [(3, 3, 64, 64)]
    assert (is_selected & toy.is_object).sum() > 0.9 * is_selected.sum() > 0


def test_the_segmenter_is_asked_to_be_as_sure_as_the_config_says(toy, monkeypatch):
    asked = []

    class Segmenter(text_module.Segmenter):
        def find(self, images, text, threshold):
            asked.append(threshold)
            return torch.ones(len(images), *images.shape[-2:], dtype=torch.bool)

    monkeypatch.setattr(text_module, "load_segmenter", lambda *args, **more: Segmenter())
    chosen(toy, text="the ball", num_views=1, view_size=16)
    chosen(toy, text="the ball", num_views=1, view_size=16, confidence=0.2)
    assert asked == [0.5, 0.2]
    for confidence in (0.0, 1.0, -1.0):
        with pytest.raises(ConfigError, match="mask.confidence is"):
            chosen(toy, text="the ball", confidence=confidence)


def test_a_saved_selection_comes_back(toy, tmp_path):
    ball = chosen(toy, sphere=BALL)
    np.save(tmp_path / "selection.npy", ball.numpy())
    assert torch.equal(chosen(toy, saved=str(tmp_path / "selection.npy")), ball)
    assert torch.equal(load_selection(tmp_path / "selection.npy", len(ball)), ball)


def test_selections_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "selection.npy"

    def message(count=3):
        with pytest.raises(SceneFormatError) as error:
            load_selection(path, count)
        return error.value.what

    np.save(path, np.array([True, False]))
    assert message() == f"mask.saved {path} is a selection of 2 Gaussians, but the scene has 3"
    np.save(path, np.array([1, 0, 1]))
    assert message() == f"mask.saved {path} holds int64 of shape (3,)"
    path.write_bytes(b"not an array")
    assert message().startswith(f"mask.saved {path} cannot be read")
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    assert message() == f"mask.saved {path} holds object of shape (1,)"


def test_previews_tint_the_selection_and_mark_masks_left_out(toy, tmp_path):
    masks = object_masks(toy.gaussians, toy.is_object, toy.cameras)
    masks[3] = masks[3].roll(16, dims=-1)
    for name, mask in zip(toy.cameras.names, masks, strict=True):
        Image.fromarray((mask.numpy() * 255).astype(np.uint8)).save(tmp_path / f"{name}.png")
    selection = find_selection(MaskConfig(picture=str(tmp_path)), toy.gaussians, toy.cameras, toy.cameras, BLACK)
    assert selection.evidence[0].is_trusted.tolist() == [True, True, True, False, True, True]
    previews = dict(preview_images(toy.gaussians, selection, toy.cameras, BLACK))
    assert list(previews) == toy.cameras.names
    for name, image in previews.items():
        assert image.shape == (384, 384, 3)
        is_red = (image - torch.tensor([1.0, 0.0, 0.3])).abs().amax(-1) < 1e-3
        is_cyan = (image - torch.tensor([0.0, 0.9, 1.0])).abs().amax(-1) < 1e-3
        assert bool(is_red.any()) == (name == "view_003")
        assert bool(is_cyan.any()) == (name != "view_003")
    box = find_selection(MaskConfig(box=UPPER), toy.gaussians, toy.cameras[:2], None, BLACK)
    assert [name for name, _ in preview_images(toy.gaussians, box, toy.cameras[:2], BLACK)] == [
        "view_000",
        "view_001",
    ]


def test_every_traced_view_has_a_picture_and_a_box_at_most_twelve(toy, monkeypatch):
    monkeypatch.setattr("threestudio_ssd.masks.preview.PREVIEW_SIZE", 16)
    few, is_object = toy.gaussians.select(slice(None, None, 8)), toy.is_object[::8]
    views = toy_cameras(15, 16)
    for parts in (1, 2):
        evidence = [Evidence(views, torch.zeros(15, 16, 16), torch.ones(15), torch.ones(15, dtype=torch.bool))] * parts
        names = [name for name, _ in preview_images(few, Selection(is_object, evidence), views, BLACK)]
        assert len(set(names)) == len(names) == 15 * parts
    assert len(list(preview_images(few, Selection(is_object), views, BLACK))) == 12


def test_a_nested_part_with_a_bad_box_is_named(toy):
    with pytest.raises(ConfigError, match=r"mask\.any_of\[0\]\.box is"):
        chosen(toy, any_of=[{"box": [0, 0, 0, 0, 1, 1]}])


def test_the_seam_is_settled_by_color_where_the_selection_is_replaced():
    keys = OmegaConf.structured(MaskConfig(picture="masks"))
    assert settle_mask(keys, "scene.ply").seam == "mask"
    assert settle_mask(keys, "scene.ply", is_replaced=True).seam == "color"
    keys.seam = "mask"
    assert settle_mask(keys, "scene.ply", is_replaced=True).seam == "mask"
    assert keys.seam == "mask"
