"""A look at a file: the figures are those of an independent calculation, and the keys that it prints can be pasted."""

import json

import numpy as np
import pytest
import torch

from tests.edit_world import toy_cameras, toy_parts, write_colmap_capture
from threestudio.run import main
from threestudio_ssd.gaussians.io import load_gaussians, save_gaussians
from threestudio_ssd.masks import in_box, in_sphere


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A toy scene with a dozen Gaussians that draw nothing and lie far away, and its COLMAP capture."""
    folder = tmp_path_factory.mktemp("scene")
    gaussians, _ = toy_parts()
    far = gaussians.select(slice(0, 12))
    far = far.replace(means=far.means + 500, logit_opacities=torch.full((12,), -9.0))
    whole = gaussians.append(far)
    whole.sh0[5] = 9.0  # a colour that cannot be shown
    save_gaussians(whole, folder / "scene.ply")
    write_colmap_capture(folder / "capture", whole, toy_cameras(6))
    return folder


def info(capsys, *words) -> str:
    assert main(["--run", "info", *map(str, words)]) == 0
    return capsys.readouterr().out


def facts_of(capsys, *words) -> dict:
    return json.loads(info(capsys, *words, "json=true"))


def test_figures_are_those_of_the_file(scene, capsys):
    facts = facts_of(capsys, scene / "scene.ply")
    drawn = load_gaussians(scene / "scene.ply").select(slice(0, -12))
    assert (facts["format"], facts["gaussians"], facts["drawn"]) == ("ply", len(drawn) + 12, len(drawn))
    assert facts["bytes"] == (scene / "scene.ply").stat().st_size
    for axis, name in enumerate("xyz"):
        values = drawn.means[:, axis].double().numpy()
        for share, value in facts["extents"][name].items():
            expected = np.quantile(values, float(share[:-1]) / 100, method="inverted_cdf")
            assert value == pytest.approx(expected, abs=1e-6)
    assert facts["bounds"] == [drawn.means.amin(0).tolist(), drawn.means.amax(0).tolist()]
    assert facts["opacity"]["50%"] == pytest.approx(float(drawn.opacities.median()))
    assert facts["colours_out_of_range"] == pytest.approx(1 / len(drawn))
    assert (facts["up"], facts["up_found_by"][:14]) == ("-y", "as in most spl")


def test_the_box_and_the_sphere_hold_the_middle_of_the_scene(scene, capsys):
    box, sphere, up = facts_of(capsys, scene / "scene.ply")["keys"]
    means = load_gaussians(scene / "scene.ply").means[:-12]
    key, _, value = box.partition("=")
    assert (key, up) == ("mask.box", "data.up=-y")
    assert 0.7 < float(in_box(means, json.loads(value)).float().mean()) < 0.95
    key, _, value = sphere.partition("=")
    assert key == "mask.sphere"
    assert float(in_sphere(means, json.loads(value)).float().mean()) == pytest.approx(0.95, abs=0.01)


def test_cameras_that_fit_are_told_from_those_that_do_not(scene, tmp_path, capsys):
    fitting = facts_of(capsys, scene / "scene.ply", f"cameras={scene / 'capture'}")
    cameras = fitting["cameras"]
    assert (cameras["views"], cameras["photographs"], cameras["problem"]) == (6, 6, None)
    assert cameras["psnr"] > 18
    assert cameras["scene_seen"] > 0.9
    assert fitting["up_found_by"] == "as the cameras are held"
    turned = load_gaussians(scene / "scene.ply")
    turned.means[:, [0, 2]] *= -1
    save_gaussians(turned, tmp_path / "turned.ply")
    text = info(capsys, tmp_path / "turned.ply", f"cameras={scene / 'capture'}")
    assert "they do not fit: renders from cameras" in text


def test_the_text_has_what_a_file_says_of_itself_and_what_to_paste(scene, tmp_path, capsys):
    lines = (scene / "scene.ply").read_bytes().split(b"\n")
    lines.insert(2, b"comment made by a hand")
    (tmp_path / "said.ply").write_bytes(b"\n".join(lines))
    text = info(capsys, tmp_path / "said.ply")
    assert 'the file says: "made by a hand"' in text
    assert "\n  mask.box=[" in text


def test_a_field_says_its_nodes_and_its_lattice(tmp_path, capsys):
    from tests.field_world import ball_field
    from threestudio_ssd.fields import save_field

    field = ball_field()
    save_field(field, tmp_path / "ball.field")
    facts = facts_of(capsys, tmp_path / "ball.field")
    assert (facts["format"], facts["gaussians"]) == ("radiance field", len(field))
    assert facts["says"] == {"resolution": 21, "half": "1"}
    assert f"{len(field):,} nodes" in info(capsys, tmp_path / "ball.field")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "error: --run info was given no file; expected the file of a splat; write --run info scene.ply"),
        (["no.ply"], "error: no.ply does not exist; expected a splat file"),
        (["data/toy-scene/scene.ply", "cameras=no"], "error: no does not exist; expected a COLMAP model"),
    ],
)
def test_what_is_missing_is_said_in_one_line(words, line, capsys):
    assert main(["--run", "info", *words]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(line)


def test_a_scene_that_draws_nothing_has_no_extents(tmp_path, capsys):
    gaussians = toy_parts()[0].select(slice(0, 5))
    save_gaussians(gaussians.replace(logit_opacities=torch.full((5,), -9.0)), tmp_path / "empty.ply")
    assert "Nothing in it is drawn" in info(capsys, tmp_path / "empty.ply")
