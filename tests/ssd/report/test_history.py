"""A chain of two edits: every result says where it comes from, and the way back ends at the capture's bytes."""

import json
import shutil

import numpy as np
import pytest
import torch

from tests.edit_world import REPOSITORY, run, vertex_rows
from threestudio.run import main
from threestudio_ssd.errors import ConfigError, SceneFormatError
from threestudio_ssd.files import sha256
from threestudio_ssd.gaussians.io import load_gaussians, save_gaussians
from threestudio_ssd.report.blend import ROWS, write_blend
from threestudio_ssd.report.history import HISTORY, edits_behind, undo
from threestudio_ssd.report.results import find_result


@pytest.fixture(scope="module")
def chain(world, tmp_path_factory):
    """Two run folders: an edit of the capture, and an edit of that."""
    out = tmp_path_factory.mktemp("chain")
    quiet = {"system.preview_every": 0}
    code, first = run(world, out / "first", "train", "export", **quiet)
    words = {"scene": first / "save" / "edited.ply", "mask.picture": "", "mask.saved": first / "save" / "selection.npy"}
    again, second = run(world, out / "second", "train", "export", target_prompt="a red cone", seed=5, **quiet, **words)
    assert (code, again) == (0, 0)
    return first, second


def test_a_history_has_every_edit_back_to_the_capture(world, chain):
    first, second = chain
    content = json.loads((second / "save" / HISTORY).read_text())["edits"]
    assert [edit["target_prompt"] for edit in content] == ["a photo of a blue ball on grass", "a red cone"]
    assert [edit["seed"] for edit in content] == [0, 5]
    assert content[0]["scene_sha256"] == sha256(world / "scene.ply")
    assert content[0]["result_sha256"] == content[1]["scene_sha256"] == sha256(first / "save" / "edited.ply")
    assert content[1]["result_sha256"] == sha256(second / "save" / "edited.ply")
    assert not (first / "save" / ROWS).exists()  # every row stayed in its place


def test_undone_twice_the_capture_s_bytes_are_back(world, chain, tmp_path, capsys):
    assert main(["--run", "undo", str(chain[1]), f"out={tmp_path / 'one.ply'}"]) == 0
    assert (tmp_path / "one.ply").read_bytes() == (chain[0] / "save" / "edited.ply").read_bytes()
    assert main(["--run", "undo", str(tmp_path / "one.ply")]) == 0
    place = capsys.readouterr().out.splitlines()[-1]
    assert sha256(place) == sha256(world / "scene.ply")
    with pytest.raises(SceneFormatError, match="nothing can be undone: .*history.json does not exist"):
        undo(find_result(place))


def test_a_folder_that_moved_as_a_whole_still_finds_its_scene(chain, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(chain[0].parents[2], moved)
    result = find_result(moved / "second" / "smoke" / "run")
    file = result.beside(HISTORY)
    content = json.loads(file.read_text())
    content["edits"][-1]["scene"] = str(tmp_path / "gone.ply")
    file.write_text(json.dumps(content))
    assert undo(result) == moved / "first" / "smoke" / "run" / "save" / "edited.ply"


def test_a_scene_that_changed_is_not_given_back(chain, tmp_path):
    shutil.copytree(chain[1] / "save", tmp_path / "save")
    content = json.loads((tmp_path / "save" / HISTORY).read_text())
    other = tmp_path / "other.ply"
    other.write_bytes(b"something else")
    content["edits"][-1] |= {"scene": str(other), "scene_from_here": "../gone.ply"}
    (tmp_path / "save" / HISTORY).write_text(json.dumps(content))
    with pytest.raises(SceneFormatError) as caught:
        undo(find_result(tmp_path / "save"))
    assert f"is nowhere ({other}, another file; {tmp_path / 'gone.ply'}, not there)" in caught.value.what


def test_a_history_of_another_file_does_not_count(chain, tmp_path):
    shutil.copy(chain[1] / "save" / HISTORY, tmp_path / HISTORY)
    shutil.copy(chain[0] / "save" / "edited.ply", tmp_path / "edited.ply")
    assert edits_behind(tmp_path / "edited.ply") == []
    with pytest.raises(SceneFormatError, match="history.json is of another file"):
        undo(find_result(tmp_path / "edited.ply"))
    with pytest.raises(ConfigError, match="has the history.json of another result"):
        undo(find_result(chain[1]), tmp_path / "copy.ply")
    with pytest.raises(ConfigError, match=r"expected a file that ends with \.ply"):
        undo(find_result(chain[1]), tmp_path / "copy.splat")


def test_the_ends_of_a_blend_are_the_files_and_what_was_not_selected_stays(world, chain, tmp_path):
    before, after = find_result(world / "scene.ply"), find_result(chain[0])
    for amount, end in ((0, before), (1, after)):
        assert (
            main(["--run", "blend", str(before.splat), str(chain[0]), f"amount={amount}", f"out={tmp_path / 'b.ply'}"])
            == 0
        )
        assert (tmp_path / "b.ply").read_bytes() == end.splat.read_bytes()
    is_selected = np.load(after.beside("selection.npy"))
    source, edited = load_gaussians(before.splat), load_gaussians(after.splat)
    for amount in (0.2, 0.8):
        write_blend(before, after, amount, tmp_path / "b.ply")
        rows, old = vertex_rows(tmp_path / "b.ply"), vertex_rows(before.splat)
        assert all(rows[row] == old[row] for row in np.flatnonzero(~is_selected))
        expected = torch.lerp(source.sh0, edited.sh0, amount)
        assert torch.allclose(load_gaussians(tmp_path / "b.ply").sh0, expected, atol=1e-6)


def test_a_blend_of_a_result_that_grew_reads_which_row_is_which(chain, tmp_path, world):
    before = find_result(world / "scene.ply")
    scene = load_gaussians(before.splat)
    grown = scene.select(torch.arange(1, len(scene))).append(scene.select(slice(0, 2)))
    save_gaussians(grown, tmp_path / "edited.ply")
    after = find_result(tmp_path)
    with pytest.raises(SceneFormatError, match=r"has \d+ Gaussians, .* and no edited_rows.npy lies beside it"):
        write_blend(before, after, 0.5, tmp_path / "b.ply")
    np.save(tmp_path / ROWS, np.concatenate([np.arange(1, len(scene)), [-1, -1]]))
    said = write_blend(before, after, 0.5, tmp_path / "b.ply")
    assert said.endswith(f"{len(scene) - 1:,} Gaussians in both, 1 fade out, 2 fade in")
    between = load_gaussians(tmp_path / "b.ply")
    assert torch.allclose(between.opacities[0] * 2, scene.opacities[0], atol=1e-5)
    np.save(tmp_path / ROWS, np.zeros(3))
    with pytest.raises(SceneFormatError, match="does not pair"):
        write_blend(before, after, 0.5, tmp_path / "b.ply")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["blend", "a.ply"], "error: --run blend was not given two splats"),
        (["blend", "a.ply", "b.ply"], "error: a.ply does not exist"),
        (["undo"], "error: --run undo was given no result"),
        (["undo", "."], "error: . holds no result"),
        (["blend", "FIELD", "SCENE"], "error: FIELD is a radiance field; expected a run folder"),
        (["blend", "SCENE", "SCENE", "amount=1.2"], "error: amount is 1.2; expected from 0 to 1; set amount=0.5"),
    ],
)
def test_mistakes_cost_a_line(words, message, world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    places = {"SCENE": str(world / "scene.ply"), "FIELD": str(REPOSITORY / "data" / "toy-scene" / "scene.field")}
    assert main(["--run", *(places.get(word, word) for word in words)]) == 2
    assert capsys.readouterr().err.startswith(message.replace("FIELD", places["FIELD"]))
    assert not list(tmp_path.iterdir())
