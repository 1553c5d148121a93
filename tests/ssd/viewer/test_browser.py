"""The viewer in a real browser: it comes up, and a whole job is done there with the mouse."""

import io

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

import threestudio_ssd as ssd
from tests.edit_world import experiment, write_world
from threestudio_ssd.gaussians.io import load_gaussians
from threestudio_ssd.masks import find_selection
from threestudio_ssd.masks.saved import load_selection
from threestudio_ssd.viewer.eyes import camera_of
from threestudio_ssd.viewer.guard import Guard
from threestudio_ssd.viewer.session import load_viewed
from threestudio_ssd.viewer.window import Window

WIDTH, HEIGHT = 1000, 300
"""Of the page, pixels; the panel covers the right 320. Small, for without a GPU every pixel costs."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def window(world, tmp_path):
    cfg = experiment(world, tmp_path, **{"mask.picture": "null", "model": "data/tiny-ldm"})
    opened = Window(load_viewed("", "", "", None, cfg), Guard("127.0.0.1"), 8080, tmp_path)
    assert opened.selecting.wait()
    yield opened
    opened.editing.pause()
    opened.server.stop()


@pytest.fixture
def seen(page, window):
    """The page with the window in it."""
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    page.set_default_timeout(120000)
    page.goto(window.server.link)
    page.get_by_role("tab", name="Select").wait_for()
    return page


def field(page, label):
    """The input with a label; viser ties labels to some of them only."""
    return page.locator(f"xpath=//label[text()='{label}']/following::input[not(@type='hidden')][1]")


def choose(page, label, option):
    field(page, label).click()
    page.get_by_role("option", name=option, exact=True).click()


def pixel(window, point) -> np.ndarray:
    """Where a point of the world is on the page."""
    (client,) = window.server.get_clients().values()
    camera = camera_of(client.camera, HEIGHT)
    inside = camera.viewmats[0, :3, :3].double() @ torch.as_tensor(point).double() + camera.viewmats[0, :3, 3].double()
    return ((camera.Ks[0].double() @ inside) / inside[2])[:2].numpy()


def drag(page, begin, end) -> None:
    page.mouse.move(*begin.tolist())
    page.mouse.down()
    for share in (0.25, 0.5, 0.75, 1.0):
        page.mouse.move(*(begin + share * (end - begin)).tolist())
        page.wait_for_timeout(50)
    page.mouse.up()


def drag_arrow(window, page, gizmo, axis: int, pixels: float) -> np.ndarray:
    """Take the arrow of an axis near its tip and pull it along; the change of the gizmo's place."""
    place, unit = np.array(gizmo.position, np.float64), np.eye(3)[axis]
    tip = pixel(window, place + 0.8 * gizmo.scale * unit)
    way = tip - pixel(window, place)
    drag(page, tip, tip + pixels * way / np.linalg.norm(way))
    page.wait_for_timeout(500)
    return np.array(gizmo.position) - place


def press(page, *names) -> None:
    for name in names:
        page.get_by_role("button", name=name, exact=True).click()


def test_the_viewer_comes_up_in_a_real_browser(seen):
    """The canvas shows the scene, whatever its colours; the panel says what it is."""
    seen.get_by_text("scene.ply").wait_for()
    canvas = seen.locator("canvas").first
    for _ in range(40):
        seen.wait_for_timeout(500)
        pixels = np.asarray(Image.open(io.BytesIO(canvas.screenshot())).convert("RGB"), np.float32)
        greenness = pixels[..., 1] - pixels[..., [0, 2]].mean(axis=-1)
        if (greenness > 25).mean() > 0.05:
            break
    assert (greenness > 25).mean() > 0.05, "no grass on the canvas"
    for text in ("Look", "Select", "Edit"):
        seen.get_by_role("tab", name=text).wait_for()
    seen.get_by_role("tab", name="Select").click()
    seen.get_by_text("Nothing is selected").wait_for()


@pytest.mark.slow
def test_a_box_and_a_sphere_are_dragged_by_their_arrows(window, seen):
    seen.get_by_role("tab", name="Select").click()
    box, sphere = window.selecting.shapes
    seen.get_by_label("box", exact=True).check(force=True)
    seen.get_by_text("Gaussians are selected").wait_for()
    first = np.array(box.numbers)
    moved = drag_arrow(window, seen, box._middle, 2, 20)
    assert moved[2] > 0.1
    np.testing.assert_allclose(np.array(box.numbers) - first, np.tile(moved, 2), atol=0.02)
    first = np.array(box.numbers)
    moved = drag_arrow(window, seen, box._edge, 0, 20)
    assert abs(moved[0]) > 0.1
    np.testing.assert_allclose(np.array(box.numbers) - first, np.concatenate([-moved, moved]), atol=0.02)
    assert field(seen, "key of box").input_value() == box.key
    assert window.selecting.wait()
    viewed, mask = window.session.viewed, OmegaConf.from_dotlist([box.key]).mask
    mask = OmegaConf.merge(OmegaConf.structured(ssd.Mask), mask)
    wanted = find_selection(mask, viewed.before, viewed.views.train, None, viewed.background).is_selected
    assert torch.equal(window.session.is_selected, wanted)
    seen.get_by_label("box", exact=True).uncheck(force=True)
    seen.get_by_label("sphere", exact=True).check(force=True)
    seen.wait_for_timeout(1000)
    first = np.array(sphere.numbers)
    drag_arrow(window, seen, sphere._edge, 2, 20)
    assert sphere.numbers[3] > first[3] + 0.05
    np.testing.assert_array_equal(sphere.numbers[:3], first[:3])


@pytest.mark.slow
def test_a_brush_adds_and_takes_away_under_the_mouse(window, seen, tmp_path):
    seen.get_by_role("tab", name="Select").click()
    choose(seen, "brush", "adds")
    seen.wait_for_timeout(1500)  # until the browser knows that clicks count
    middle = pixel(window, [0, 0, 1.0])
    seen.keyboard.down("Shift")
    drag(seen, middle - [50, 50], middle + [20, 50])
    seen.keyboard.up("Shift")
    seen.get_by_text("Gaussians are selected").wait_for()
    added = window.session.is_selected
    assert 10 < int(added.sum()) < len(added) / 4
    choose(seen, "brush", "takes away")
    seen.wait_for_timeout(1500)
    said = window.selecting.facts.content
    seen.mouse.click(*middle.tolist())
    seen.get_by_text(said).wait_for(state="hidden")
    left = window.session.is_selected
    assert 0 < int(left.sum()) < int(added.sum())
    assert not (left & ~added).any()
    press(seen, "save the selection")
    seen.get_by_text("Saved").first.wait_for()
    assert torch.equal(load_selection(str(tmp_path / "selection.npy"), len(left)), left)


@pytest.mark.slow
def test_a_whole_job_is_done_in_a_real_browser(window, seen, world, tmp_path):
    """Box on, words typed, an edit tried, run, paused, gone on with, saved as another format, kept and undone."""
    editing, session = window.editing, window.session
    seen.get_by_role("tab", name="Select").click()
    seen.get_by_label("box", exact=True).check(force=True)
    seen.get_by_text("Gaussians are selected").wait_for()
    wanted = session.is_selected
    seen.get_by_role("tab", name="Edit").click()
    for label, text in (("what should be", "a photo of a green ball on grass"), ("steps", "60")):
        field(seen, label).fill(text)
    field(seen, "steps of a preview").fill("2")
    press(seen, "preview")
    seen.get_by_text("before | after, step 2").wait_for()
    press(seen, "run")
    seen.get_by_text("Step 4 of 60").or_(seen.get_by_text("Step 5 of 60")).first.wait_for()
    press(seen, "pause")
    editing._thread.join(60)
    assert 4 <= editing._run.step < 60
    press(seen, "run")
    seen.get_by_text("Step 60 of 60, done.").wait_for()
    editing._thread.join(60)
    field(seen, "save result as").fill(str(tmp_path / "by-hand.xyz"))
    press(seen, "save the result")
    seen.get_by_text("unknown suffix '.xyz'").wait_for()
    field(seen, "save result as").fill(str(tmp_path / "by-hand.spz"))
    press(seen, "save the result")
    seen.get_by_text("Saved").first.wait_for()
    assert len(load_gaussians(tmp_path / "by-hand.spz")) == len(wanted)
    press(seen, "keep")
    seen.get_by_text("Kept as").wait_for()
    before, after = load_gaussians(world / "scene.ply"), load_gaussians(tmp_path / "kept-1.ply")
    assert session.path == str(tmp_path / "kept-1.ply")
    assert torch.equal(before.sh0[~wanted], after.sh0[~wanted])
    assert not torch.equal(before.sh0[wanted], after.sh0[wanted])
    press(seen, "undo")
    seen.get_by_text("0 edits are kept").wait_for()
    assert session.path == str(world / "scene.ply")
    assert torch.equal(session.before.sh0, before.sh0)
