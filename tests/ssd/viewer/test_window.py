"""The viewer: served to this machine, seen in a real browser, selecting as the keys do, editing as the call does."""

import http.client
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import threestudio_ssd as ssd
from tests.edit_world import REPOSITORY, SMOKE, SOURCE, TARGET, experiment, toy_parts, write_photographs, write_world
from threestudio.apps import split_overrides
from threestudio_ssd.errors import ConfigError, MissingPackageError
from threestudio_ssd.gaussians.io import load_gaussians
from threestudio_ssd.masks import find_selection
from threestudio_ssd.masks.saved import load_selection
from threestudio_ssd.viewer import require_viser
from threestudio_ssd.viewer.eyes import camera_of, pinhole, pose_of
from threestudio_ssd.viewer.guard import Guard
from threestudio_ssd.viewer.selecting import ADD, REMOVE
from threestudio_ssd.viewer.session import Viewed, load_viewed
from threestudio_ssd.viewer.stage import SPLIT
from threestudio_ssd.viewer.window import Window

BOX = [-1.1, -1.1, 0.05, 1.1, 1.1, 2.2]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


def look_at_world(world: Path, **keys: object) -> Viewed:
    cameras = str(world / "cameras.json")
    return load_viewed(str(world / "scene.ply"), "", cameras, OmegaConf.create(keys), None)


@pytest.fixture
def window(world, tmp_path):
    opened = Window(look_at_world(world), Guard("127.0.0.1"), 8080, tmp_path)
    assert opened.selecting.wait()
    yield opened
    opened.editing.pause()
    opened.server.stop()


def typed(value: str) -> SimpleNamespace:
    """An event as viser makes one when somebody types."""
    return SimpleNamespace(client=object(), value=value)


def ask(port: int, path: str = "/", **headers: str) -> tuple[int, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    answer.read()
    return answer.status, dict(answer.getheaders())


def upgrade(port: int, **headers: str) -> int:
    """Status of a websocket's opening handshake."""
    words = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec_WebSocket_Protocol": "viser-v0", **headers,
    }  # fmt: skip
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/", headers={name.replace("_", "-"): value for name, value in words.items()})
    return connection.getresponse().status


def test_pages_and_names_of_elsewhere_are_refused(window):
    port = window.server.get_port()
    assert ask(port)[0] == 200
    assert ask(port, Host="evil.example")[0] == 403
    assert ask(port, Origin="https://evil.example")[0] == 403
    here = f"localhost:{port}"
    assert upgrade(port, Host=here, Origin=f"http://{here}") == 101
    assert upgrade(port, Host=here, Origin="https://evil.example") == 403
    assert upgrade(port, Host="evil.example", Origin="http://evil.example") == 403
    assert window.server.request_share_url() is None


def test_the_links_token_becomes_a_cookie(world, tmp_path):
    guard = Guard("127.0.0.1", "a-token-that-nobody-guesses")
    opened = Window(look_at_world(world), guard, 8080, tmp_path)
    try:
        port = opened.server.get_port()
        assert opened.server.link.endswith("/?token=a-token-that-nobody-guesses")
        assert ask(port)[0] == 403
        assert upgrade(port) == 403
        status, headers = ask(port, "/?token=a-token-that-nobody-guesses")
        assert (status, headers["Location"]) == (303, "/")
        assert ask(port, Cookie=headers["Set-Cookie"].partition(";")[0])[0] == 200
    finally:
        opened.server.stop()


def test_an_address_of_another_machine_is_one_line(world, tmp_path):
    with pytest.raises(ConfigError, match=r"host 192\.0\.2\.1, port 8080 cannot be bound"):
        Window(look_at_world(world), Guard("192.0.2.1"), 8080, tmp_path)


def test_without_viser_one_line_names_it(monkeypatch):
    monkeypatch.setattr("threestudio_ssd.viewer.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"needs viser; .* pip install -r requirements-extra.txt"):
        require_viser()


def test_box_and_sphere_select_as_their_keys_do(window):
    selecting, viewed = window.selecting, window.session.viewed
    for shape, numbers in zip(selecting.shapes, (BOX, [0, 0, 1, 1.1]), strict=True):
        shape.switch.value = True
        shape.text.value = f"mask.{shape.name}={numbers}"
        shape._typed()
        assert selecting.wait()
        keys = OmegaConf.from_dotlist([shape.key])
        mask = OmegaConf.merge(OmegaConf.structured(ssd.Mask), keys.mask)
        wanted = find_selection(mask, viewed.before, viewed.views.train, None, viewed.background).is_selected
        assert 0 < int(wanted.sum()) < len(wanted)
        assert torch.equal(window.session.is_selected, wanted)
        assert f"{int(wanted.sum()):,} of" in selecting.facts.content
        shape.switch.value = False


def test_a_box_is_dragged_as_a_whole_and_by_its_corner(window):
    box = window.selecting.shapes[0]
    box.switch.value = True
    middle, corner = np.array(box._middle.position), np.array(box._edge.position)
    box._middle.position = middle + [0.5, 0, 0]
    box._dragged(box._middle, "end")
    np.testing.assert_allclose(box.numbers[3:], corner + [0.5, 0, 0], atol=2e-3)
    np.testing.assert_allclose(np.asarray(box._edge.position), box.numbers[3:], atol=1e-9)
    box._edge.position = np.asarray(box._middle.position) + [1, 2, 3]
    box._dragged(box._edge, "end")
    np.testing.assert_allclose(np.subtract(box.numbers[3:], box.numbers[:3]), [2, 4, 6], atol=3e-3)
    assert box.text.value == box.key
    before = list(box.numbers)
    for text in ("mask.box=[1,2", "mask.box=[2,2,2,1,1,1]", 'mask.box="x"', "", "mask.box=[1,2,3]"):
        box.text.value = text
        box._typed()
        assert box.numbers == before


def test_a_brush_adds_and_takes_away_what_is_seen_and_is_saved(window, tmp_path):
    session, selecting = window.session, window.selecting
    camera = session.viewed.plan.capture[0]
    wxyz, position, fov, aspect = pose_of(camera, 0)
    eye = SimpleNamespace(wxyz=wxyz, position=position, fov=fov, aspect=aspect)
    client = SimpleNamespace(camera=eye)
    selecting.brush.value, selecting.radius.value = ADD, 0.1
    selecting._clicked(SimpleNamespace(client=client, screen_pos=(0.5, 0.5)))
    added = session.is_selected
    assert 0 < int(added.sum()) < len(added) / 4
    selecting.brush.value = REMOVE
    selecting._boxed(SimpleNamespace(client=client, screen_min=(0.0, 0.0), screen_max=(0.5, 1.0)))
    assert 0 < int(session.is_selected.sum()) < int(added.sum())
    selecting.path.value = str(tmp_path / "mine" / "selection.npy")
    selecting._save()
    assert torch.equal(load_selection(selecting.path.value, len(added)), session.is_selected)
    selecting._forget()
    assert not session.is_selected.any()


def test_masks_of_a_config_are_traced_and_follow_the_threshold(world, tmp_path):
    viewed = load_viewed("", "", "", None, experiment(world, tmp_path))
    assert viewed.words == {"source": SOURCE, "target": TARGET}
    opened = Window(viewed, Guard("127.0.0.1"), 8080, tmp_path)
    try:
        assert opened.selecting.wait()
        gaussians, is_object = toy_parts()
        overlap = (opened.session.is_selected & is_object).sum() / (opened.session.is_selected | is_object).sum()
        assert overlap > 0.7
        first = int(opened.session.is_selected.sum())
        opened.selecting.threshold.value = 0.95
        opened.selecting._later(opened.selecting._find)
        assert opened.selecting.wait()
        assert 0 < int(opened.session.is_selected.sum()) < first
    finally:
        opened.server.stop()


def test_the_browsers_camera_is_ours(world):
    cameras = look_at_world(world).plan.capture
    wxyz, position, fov, aspect = pose_of(cameras, 3)
    size = (int(cameras.widths[3]), int(cameras.heights[3]))
    again = pinhole(wxyz, position, fov, size)
    torch.testing.assert_close(again.viewmats[0], cameras.viewmats[3], atol=1e-5, rtol=0)
    torch.testing.assert_close(again.Ks[0], cameras.Ks[3], atol=1e-3, rtol=0)
    wide = camera_of(SimpleNamespace(wxyz=wxyz, position=position, fov=fov, aspect=2.0), 50)
    assert (int(wide.widths[0]), int(wide.heights[0])) == (100, 50)


def test_a_view_shows_the_photograph_beside_the_render(world, tmp_path):
    scene = load_gaussians(world / "scene.ply")
    viewed = look_at_world(world)
    capture = viewed.plan.capture
    names = write_photographs(tmp_path, scene, capture)
    capture.image_paths = [tmp_path / "images" / name for name in names]
    opened = Window(viewed, Guard("127.0.0.1"), 8080, tmp_path)
    try:
        opened.captured._show(2)
        assert opened.captured.picture.label == "photograph | render"
        image = np.asarray(opened.captured.picture.image, np.float32)
        photograph, render = np.split(image, 2, axis=1)
        assert np.corrcoef(photograph.flatten(), render.flatten())[0, 1] > 0.9
    finally:
        opened.server.stop()


def work(editing, *, is_preview: bool = False) -> None:
    """Press ``run`` or ``preview``, and wait for the end."""
    editing._start(is_preview=is_preview)
    editing._thread.join(120)
    assert not editing.is_running


def test_an_edit_is_previewed_run_kept_undone_and_saved(window, world, tmp_path):
    editing, session = window.editing, window.session
    session.change(is_selected=torch.from_numpy(toy_parts()[1].numpy()))
    for control in (editing.method, editing.config):  # they answer in threads of their own
        control.remove_update_callback("all")
    editing.method.value, editing.config.value = "another config", str(SMOKE)
    editing._take_defaults()
    assert (editing.steps.value, editing.strength.visible) == (4, True)
    editing.source.value, editing.target.value, editing.model.value = SOURCE, TARGET, str(world / "model")
    editing.tried.value = 1
    work(editing, is_preview=True)
    assert editing._run.step == 1
    assert editing.pictures.label == "before | after, step 1"
    editing._is_pausing.set()
    work(editing)
    run = editing._run
    assert run.step == 4
    assert SPLIT in window.stage.choice.options
    assert editing.facts.content == "Step 4 of 4, done."
    assert editing.pictures.label == "before | after, step 4"
    editing.path.value = str(tmp_path / "mine.ply")
    editing._save()
    wanted = ssd.edit_scene(
        world / "scene.ply", cameras=world / "cameras.json", source=SOURCE, target=TARGET, model=world / "model",
        steps=4, config=SMOKE, mask=ssd.Mask(saved=str(tmp_path / "selection-0.npy")),
    )  # fmt: skip
    wanted.run()
    wanted.save(tmp_path / "wanted.ply")
    assert (tmp_path / "mine.ply").read_bytes() == (tmp_path / "wanted.ply").read_bytes()
    editing._keep()
    assert session.path == str(tmp_path / "kept-1.ply")
    assert torch.equal(session.before.sh0, run.result().sh0)
    assert session.after is None
    assert torch.equal(session.is_selected, run.result_selection())
    assert torch.equal(session.is_selected, run.is_selected)
    editing._save()
    editing._undo()
    assert session.path == str(world / "scene.ply")
    assert session.is_selected.any()
    assert torch.equal(session.before.sh0, load_gaussians(world / "scene.ply").sh0)


def test_with_a_config_cameras_and_mask_are_its_keys():
    words = ["scene.ply", "cameras=capture", "mask.box=[0,0,0,1,1,1]", "out=here"]
    both = {"cameras": False, "mask": True}
    assert split_overrides("view", words, both) == (words[1:3], [words[0], words[3]])
    assert split_overrides("view", words, None) == ([], words)


def test_a_method_says_its_steps_its_model_and_whether_it_has_a_strength(window, tmp_path):
    editing = window.editing
    assert (editing.method.value, editing.steps.value, editing.model.value) == ("ssd-gs", 1500, "data/tiny-ldm")
    assert {"ssd-gs", "shape-gs", "ssd-gs-ip2p"} <= set(editing.method.options)
    assert not {"add-gs", "fit-gs", "ssd-image"} & set(editing.method.options)
    assert "strength" not in editing._words()["changes"] or editing._chosen().has_strength
    own = tmp_path / "own.yaml"
    own.write_text(f"include: {SMOKE}\nstrength: 1.0\n")
    for control in (editing.method, editing.config):
        control.remove_update_callback("all")
    editing.method.value, editing.config.value = "another config", str(own)
    editing._take_defaults()
    editing.strength.value = 1.5
    assert editing.strength.visible
    assert editing._words()["changes"] == {"strength": 1.5}
    editing.config.value = str(tmp_path / "none.yaml")
    work(editing)
    assert editing._run is None
    assert editing.facts.content == "Nothing was edited yet."


def test_words_that_are_typed_are_looked_for_by_what_auto_means_for_the_scene(tmp_path, monkeypatch):
    segmenters = []

    def noting(mask, gaussians, *unused):
        segmenters.append((mask.text, mask.segmenter))
        return SimpleNamespace(is_selected=torch.ones(len(gaussians), dtype=torch.bool))

    monkeypatch.setattr("threestudio_ssd.viewer.selecting.find_selection", noting)
    toy = REPOSITORY / "data" / "toy-scene"
    viewed = load_viewed(str(toy / "scene.ply"), "", str(toy / "cameras.json"), OmegaConf.create(), None)
    opened = Window(viewed, Guard("127.0.0.1"), 8080, tmp_path)
    try:
        assert opened.selecting.wait()
        opened.selecting._look_for(" the ball ")
        assert opened.selecting.wait()
        assert segmenters == [("the ball", "data/tiny-seg")]
        assert opened.session.is_selected.all()
    finally:
        opened.server.stop()


def test_a_box_begins_where_the_first_view_shows_all_of_it(window):
    viewed = window.session.viewed
    camera = viewed.views.test[0]
    for shape in window.selecting.shapes:
        middle, edge = (torch.from_numpy(place).float() for place in shape._middle_and_edge())
        reach = shape._middle.scale if shape.name == "box" else float((edge - middle).norm())
        points = middle + torch.cat([edge[None] - middle, reach * torch.eye(3), -reach * torch.eye(3)])
        seen = points @ camera.viewmats[0, :3, :3].mT.float() + camera.viewmats[0, :3, 3].float()
        places = (seen @ camera.Ks[0].mT.float())[:, :2] / seen[:, 2:]
        assert (seen[:, 2] > 0).all()
        assert (places > 0).all()
        assert (places < torch.tensor([int(camera.widths[0]), int(camera.heights[0])])).all()
